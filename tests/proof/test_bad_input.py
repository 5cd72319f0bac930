"""Whatever comes in: an answer in OpenAI's shape, never a fault of ours, never a crash, memory bounded."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proof.answers import MODEL
from tests.proof.door import CHAT, Door, chat_body
from tests.proof.findings import Findings
from tests.proof.raw import Raw, Reply, ask, request
from tests.proof.strategies import BODIES, CROOKED, METHODS, bodies, headers, targets

MEMORY_GROWTH_BYTES = 60 << 20
"""Over all of this file's requests."""
TOO_LARGE_BYTES = 300 << 20
AHEAD_BYTES = 100 << 20


@pytest.fixture(scope="module", autouse=True)
def gateway_holds(door: Door) -> object:
    """After everything: still the same process, at work, with nothing under way and no more memory than before."""
    process, before = door.gateway.popen.pid, door.gateway.rss_bytes()
    yield
    assert door.gateway.running
    assert door.gateway.popen.pid == process
    door.settle()
    assert door.gateway.rss_bytes() - before < MEMORY_GROWTH_BYTES
    assert "Traceback" not in door.gateway.errors.read_text()
    assert [line for line in door.gateway.events() if line.get("event") == "fault"] == []


def check(reply: Reply, method: str = "GET") -> None:
    """An answer that may be. Of the 5xx only those that are documented: 501 and 503 with Retry-After."""
    assert 200 <= reply.status < 500 or reply.status in (501, 503), (reply.status, reply.body[:500])
    assert reply.status not in (429, 503) or int(reply.headers["retry-after"]) >= 1
    if reply.status >= 400 and method != "HEAD":
        assert reply.headers["content-type"].startswith("application/json"), reply.headers
        reply.error()


@pytest.mark.parametrize("path", BODIES)
def test_no_body_breaks_an_endpoint(door: Door, path: str, findings: Findings) -> None:
    statuses: Counter[int] = Counter()

    @CROOKED
    @given(body=bodies(path))
    def run(body: bytes) -> None:
        reply = door.ask("POST", path, body, Content_Type="application/json")
        check(reply)
        statuses[reply.status] += 1

    run()
    findings.say(statuses=dict(sorted(statuses.items())))


def test_no_method_path_or_header_breaks_the_gateway(door: Door, findings: Findings) -> None:
    statuses: Counter[int] = Counter()

    @CROOKED
    @given(method=st.sampled_from(METHODS), target=targets, sent=headers, body=st.none() | st.binary(max_size=50))
    def run(method: str, target: str, sent: dict[str, str], body: bytes | None) -> None:
        key = "" if "Authorization" in sent else door.key
        reply = ask(door.port, request(method, target, key, body, **sent), method)
        check(reply, method)
        assert "x-injected" not in reply.headers
        statuses[reply.status] += 1

    run()
    findings.say(statuses=dict(sorted(statuses.items())))


def test_no_bytes_break_a_connection(door: Door) -> None:
    """What is no HTTP at all: an error in OpenAI's shape or a closed connection."""

    @CROOKED
    @given(data=st.binary(min_size=1, max_size=100))
    def run(data: bytes) -> None:
        with Raw(door.port) as connection:
            connection.send(data + b"\r\n\r\n")
            try:
                check(connection.reply())
            except ConnectionError:
                assert door.gateway.running

    run()


def test_no_file_breaks_the_upload(door: Door) -> None:
    """Multipart bodies: boundaries, headers and lines that are not as they should be."""
    part = st.sampled_from(
        [
            b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch',
            b'Content-Disposition: form-data; name="file"; filename="x"\r\n\r\n{}\n',
            b'Content-Disposition: form-data; name="file"; filename="\r\nx"\r\n\r\nabc',
            b'Content-Disposition: form-data; name="purpose"\r\n\r\n' + b"p" * 5000,
            b"\r\n\r\n",
            b"Content-Disposition: form-data\r\n\r\nno name",
            b'Content-Disposition: form-data; name="file"; filename="\xff\xfe"\r\n\r\n\xff\xfe',
        ]
    )
    kind = st.sampled_from(
        ["multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=", "text/plain", ""]
    )

    @CROOKED
    @given(parts=st.lists(part, max_size=4), kind=kind, end=st.sampled_from([b"--b--\r\n", b"--b", b"", b"--b--x"]))
    def run(parts: list[bytes], kind: str, end: bytes) -> None:
        body = b"".join(b"--b\r\n" + each + b"\r\n" for each in parts) + end
        check(door.ask("POST", "/v1/files", body, Content_Type=kind))

    run()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="empty"),
        pytest.param(b"{", 400, id="broken JSON"),
        pytest.param(b"[]", 400, id="no object"),
        pytest.param(b"\xff\xfe{}", 400, id="broken UTF-8"),
        pytest.param(b'{"model":"' + MODEL.encode() + b'","messages":"hello"}', 400, id="wrong type"),
        pytest.param(b'{"model":"' + MODEL.encode() + b'","messages":[]}', 400, id="no message"),
        pytest.param(b'{"model":"no-such-model","messages":[{"role":"user","content":"x"}]}', 404, id="unknown model"),
        pytest.param(chat_body("x", max_tokens=10**9), 400, id="beyond every context"),
        pytest.param(chat_body("x", max_tokens=-1), 400, id="less than no tokens"),
        pytest.param(b"[" * 1_000_000, 400, id="a million brackets"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(door: Door, body: bytes, status: int) -> None:
    before = door.started()
    reply = door.ask("POST", CHAT, body)
    assert reply.status == status, reply.body
    assert len(reply.error()["message"]) > 10
    assert door.started() == before


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(door: Door) -> None:
    with Raw(door.port) as connection:
        head = request("POST", CHAT, door.key, Content_Length=str(TOO_LARGE_BYTES), Expect="100-continue")
        connection.send(head)
        reply = connection.reply()
    assert reply.status == 413
    reply.error()


@pytest.mark.parametrize("path", [CHAT, "/v1/batches", "/v1/files", "/v1/nothing"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_huge_body_is_not_read_to_its_end_and_not_held(door: Door, path: str, framing: str) -> None:
    before = door.gateway.rss_bytes()
    piece = b"x" * 65_536
    with Raw(door.port) as connection:
        if framing == "length":
            connection.send(request("POST", path, door.key, Content_Length=str(TOO_LARGE_BYTES)))
        else:
            connection.send(request("POST", path, door.key, Transfer_Encoding="chunked"))
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        sent = connection.send_while_open(piece, TOO_LARGE_BYTES)
        reply = connection.reply()
    assert reply.status in (400, 404, 413), reply.body
    reply.error()
    limit = 260 << 20 if path == "/v1/files" else 64 << 20
    assert sent < limit
    assert door.gateway.rss_bytes() - before < MEMORY_GROWTH_BYTES


def test_a_huge_head_is_refused(door: Door) -> None:
    with Raw(door.port) as connection:
        connection.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")
        connection.send_while_open(b"X-Filler: " + b"a" * 1000 + b"\r\n", 10 << 20)
        reply = connection.reply()
    assert reply.status == 431
    reply.error()


def test_requests_sent_ahead_are_answered_in_order(door: Door) -> None:
    first = request("POST", CHAT, door.key, chat_body("the first"))
    second = request("GET", "/v1/models", door.key)
    third = request("POST", CHAT, door.key, chat_body("the third", stream=True))
    with Raw(door.port) as connection:
        connection.send(first + second + third + second)
        replies = [connection.reply() for _ in range(4)]
    assert [reply.status for reply in replies] == [200] * 4
    assert json.loads(replies[0].body)["object"] == "chat.completion"
    assert json.loads(replies[1].body)["object"] == "list"
    assert replies[2].body.endswith(b"data: [DONE]\n\n")
    assert replies[3].body == replies[1].body


def test_requests_sent_ahead_without_reading_fill_no_memory(door: Door) -> None:
    before = door.gateway.rss_bytes()
    many = request("GET", "/v1/models", door.key) * 100
    with Raw(door.port, receive_buffer_bytes=4096) as connection:
        sent = connection.send_while_taken(many, AHEAD_BYTES)
        assert door.chat("another client").status == 200
        assert door.gateway.rss_bytes() - before < MEMORY_GROWTH_BYTES
        assert sent < AHEAD_BYTES


SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
CHUNKED_BODY = b"0\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="length and chunked"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", id="chunked and length"),
        pytest.param(b"Content-Length: 5\r\nContent-Length: 6\r\n", id="two lengths"),
        pytest.param(b"Content-Length: 5, 5\r\n", id="a list of lengths"),
        pytest.param(b"Content-Length: +5\r\n", id="a signed length"),
        pytest.param(b"Content-Length: -5\r\n", id="a negative length"),
        pytest.param(b"Content-Length: 0x5\r\n", id="a length in hex"),
        pytest.param(b"Content-Length: 5 5\r\n", id="a length with a space"),
        pytest.param(b"Content-Length: 99999999999999999999\r\n", id="a length beyond 64 bits"),
        pytest.param(b"Transfer-Encoding : chunked\r\n", id="a space before the colon"),
        pytest.param(b"Transfer-Encoding: xchunked\r\n", id="an unknown coding"),
        pytest.param(b"Transfer-Encoding: chunked, identity\r\n", id="chunked not last"),
        pytest.param(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked, identity\r\n", id="two codings"),
        pytest.param(b"Transfer-Encoding:\x0bchunked\r\n", id="a vertical tab"),
        pytest.param(b"X: y\r\n Transfer-Encoding: chunked\r\n", id="a folded line"),
        pytest.param(b"X: y\nTransfer-Encoding: chunked\r\n", id="a bare line feed"),
        pytest.param(b"X: y\rTransfer-Encoding: chunked\r\n", id="a bare carriage return"),
        pytest.param(b"X\0: y\r\n", id="a null in a name"),
        pytest.param(b": y\r\n", id="a name that is empty"),
    ],
)
def test_an_unclear_end_of_a_body_ends_the_connection(door: Door, lines: bytes) -> None:
    """Request smuggling: wherever two readers could disagree where a request ends, it is refused and nothing after it
    is taken for a request.
    """
    before = door.started()
    hidden = request("POST", CHAT, door.key, chat_body("smuggled"))
    with Raw(door.port) as connection:
        connection.send(SMUGGLED + b"Authorization: Bearer " + door.key.encode() + b"\r\n" + lines + b"\r\n")
        connection.send(CHUNKED_BODY + hidden)
        answers = connection.ends()
    assert answers.count(b"HTTP/1.1 ") <= 1
    assert not answers or answers.startswith(b"HTTP/1.1 4"), answers[:200]
    assert door.started() == before


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"ffffffffffffffff1\r\nx", id="a size beyond 64 bits"),
        pytest.param(b"-1\r\nx", id="a negative size"),
        pytest.param(b"zz\r\nx", id="no size"),
        pytest.param(b"1\r\nxx\r\n0\r\n\r\n", id="more than its size"),
        pytest.param(b"1;" + b"e" * 100_000 + b"\r\nx\r\n0\r\n\r\n", id="an endless extension"),
    ],
)
def test_a_wrong_chunk_ends_the_connection(door: Door, chunks: bytes) -> None:
    before = door.started()
    with Raw(door.port) as connection:
        connection.send(request("POST", CHAT, door.key, Transfer_Encoding="chunked") + chunks)
        answers = connection.ends()
    assert not answers or answers.startswith(b"HTTP/1.1 4"), answers[:200]
    assert door.started() == before
