"""Who may do what, and what nobody may see."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from llm_fleet.gateway.key_store import REFRESH_S, revoke_key
from llm_fleet.gateway.keys import id_of
from tests.proof.answers import MODEL, answer
from tests.proof.door import CHAT, Door, chat_body
from tests.proof.engine import REFUSED_WORD
from tests.proof.fleet import AWS_SECRET
from tests.proof.processes import wait_until
from tests.proof.raw import Raw, Reply, ask, request

GUARDED = [
    ("POST", CHAT),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", f"/v1/models/{MODEL}"),
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file-1"),
    ("DELETE", "/v1/files/file-1"),
    ("GET", "/v1/files/file-1/content"),
    ("GET", "/v1/batches"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches/batch_1"),
    ("POST", "/v1/batches/batch_1/cancel"),
]
PROMPT = "the-prompt-that-nobody-may-log"


@pytest.fixture(scope="module")
def revoked(door: Door) -> str:
    """A key that worked and was revoked before the tests of this file: the last one waits less for it."""
    text = door.fleet.add_key("revoked")
    assert door.ask("GET", "/v1/models", key=text).status == 200
    assert revoke_key(door.fleet.dynamodb, door.fleet.keys_table, id_of(text) or "")
    return text


@pytest.fixture
def client_of(door: Door) -> Iterator[Callable[[str], openai.OpenAI]]:
    """Official clients by key."""
    with contextlib.ExitStack() as opened:
        yield lambda key: opened.enter_context(door.client(key))


WRONG_KEYS: list[Callable[[str], str]] = [
    lambda _: "",
    lambda _: "Authorization: Bearer\r\n",
    lambda _: "Authorization: Bearer \r\n",
    lambda _: "Authorization: Bearer sk-made-up\r\n",
    lambda _: "Authorization: Bearer llmf-000000000000-\r\n",
    lambda _: "Authorization: Bearer llmf-" + "a" * 8000 + "\r\n",
    lambda _: "Authorization: Bearer \xff\xfe\r\n",
    lambda key: f"Authorization: Bearer {key[:-1]}\r\n",
    lambda key: f"Authorization: Bearer {key}x\r\n",
    lambda key: f"Authorization: Bearer {key.upper()}\r\n",
    lambda key: f"Authorization: Bearer {hashlib.sha256(key.encode()).hexdigest()}\r\n",
    lambda key: f"Authorization: Bearer {key[:17]}-{'A' * 43}\r\n",
    lambda key: f"Authorization: Basic {key}\r\n",
    lambda key: f"Authorization: {key}\r\n",
    lambda key: f"Authorization: Bearer {key} {key}\r\n",
    lambda key: f"X-Api-Key-Of-Mine: {key}\r\n",
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nothing_is_done_without_a_key(door: Door, revoked: str, method: str, path: str) -> None:
    refused(ask(door.port, request(method, path, body=b"{}")))


@pytest.mark.parametrize("number", range(len(WRONG_KEYS)))
def test_a_key_that_is_not_quite_one_is_refused(door: Door, revoked: str, number: int) -> None:
    before = door.started()
    body = chat_body("let me in")
    lines = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{WRONG_KEYS[number](door.key)}Content-Length: {len(body)}\r\n\r\n"
    refused(ask(door.port, lines.encode("latin-1") + body))
    assert door.started() == before


def test_two_keys_in_one_request_are_not_chosen_from(door: Door) -> None:
    body = chat_body("let me in")
    first, second = "Authorization: Bearer sk-made-up\r\n", f"Authorization: Bearer {door.key}\r\n"
    before = door.started()
    for lines in (first + second, second + first):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        assert ask(door.port, head.encode() + body).status in (400, 401)
    assert door.started() == before


def refused(reply: Reply) -> None:
    assert reply.status == 401, reply.body
    assert reply.error()["type"] == "authentication_error"


def upload(client: openai.OpenAI, name: str) -> str:
    body = {"model": MODEL, "messages": [{"role": "user", "content": name}]}
    line = {"custom_id": name, "method": "POST", "url": CHAT, "body": body}
    return client.files.create(file=("x.jsonl", json.dumps(line).encode() + b"\n"), purpose="batch").id


def test_what_belongs_to_another_key_is_as_if_it_were_not(
    door: Door, client_of: Callable[[str], openai.OpenAI]
) -> None:
    yours = door.fleet.add_key("yours")
    me, you = client_of(door.fleet.add_key("mine")), client_of(yours)
    file_id = upload(me, "mine")
    batch = me.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    places = [
        ("GET", "/v1/files/{}", file_id),
        ("GET", "/v1/files/{}/content", file_id),
        ("DELETE", "/v1/files/{}", file_id),
        ("GET", "/v1/batches/{}", batch.id),
        ("POST", "/v1/batches/{}/cancel", batch.id),
    ]
    for method, pattern, id in places:
        never = id[:-6] + "000000"
        real = door.ask(method, pattern.format(id), key=yours)
        made_up = door.ask(method, pattern.format(never), key=yours)
        assert real.status == made_up.status == 404
        assert real.body.replace(id.encode(), b"ID") == made_up.body.replace(never.encode(), b"ID")
    with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as failure:
        you.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    assert "mine" not in str(failure.value)
    assert not you.files.list().data
    assert not you.batches.list().data
    assert me.files.retrieve(file_id).id == file_id
    assert me.batches.retrieve(batch.id).status != "cancelled"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/files/../../etc/passwd",
        "/v1/files/..%2f..%2fetc%2fpasswd/content",
        "/v1/files/%2e%2e/content",
        "/v1/files/file-1%00/content",
        "/v1/files/file-1%0d%0aX-Injected:%201/content",
        "/v1/batches/%0d%0aX-Injected:%201",
        "/v1/batches/batch_1%2fcancel",
        "/v1/batches/key%23x",
        "/v1/models/%0d%0aX-Injected:%201",
        "/v1/models/%1b[31mred",
        "/v1/%2e%2e/metrics/%0d%0aX-Injected:%201",
        "//v1/models",
        "/V1/MODELS",
        "/v1/models/",
        "http://elsewhere/v1/files/open",
        "/v1/files/open",
        "/v1/batches/open",
    ],
)
def test_no_path_leads_out_of_what_is_there(door: Door, target: str) -> None:
    reply = door.ask("GET", target)
    assert reply.status in (400, 404), reply.body
    assert "x-injected" not in reply.headers
    assert b"\x1b" not in reply.body
    reply.error()


@pytest.mark.parametrize("name", ["x-request-id", "x-llm-fleet-priority", "user-agent", "accept"])
def test_no_header_comes_back_as_two(door: Door, name: str) -> None:
    """Line breaks that a lenient reader takes for such, and control characters."""
    for value in (b"a\rX-Injected: 1", b"a\nX-Injected: 1", b"a\x0bX-Injected: 1", b"a\x85X-Injected: 1", b"a" * 5000):
        with Raw(door.port) as connection:
            head = request("GET", "/v1/models", door.key)[:-2]
            connection.send(head + name.encode() + b": " + value + b"\r\n\r\n")
            reply = connection.reply()
        assert "x-injected" not in reply.headers
        assert sum(len(value) for value in reply.headers.values()) < 2000


def test_the_engine_never_sees_who_asks(door: Door) -> None:
    for engine in door.engines:
        engine.order("reset")
    for number in range(8):
        body = chat_body(f"who am I {number}")
        headers = {"Cookie": "c=secret", "X_Api_Key": door.key, "Proxy_Authorization": "Basic eA==", "X_Marker": "1"}
        assert door.ask("POST", CHAT, body, **headers).status == 200
    for engine in door.engines:
        counts = engine.counts()
        assert not counts["header_values"]
        assert not {"authorization", "cookie", "x-api-key", "proxy-authorization"} & set(counts["header_names"])
        assert not any(name.startswith("x-llm-fleet") for name in counts["header_names"])


def test_no_log_holds_a_prompt_an_answer_or_a_key(door: Door, client_of: Callable[[str], openai.OpenAI]) -> None:
    """Through every way that a prompt takes: answered, refused by the gateway, refused by the engine, in a batch."""
    key = door.fleet.add_key("not to be logged")
    client = client_of(key)
    messages: Any = [{"role": "user", "content": PROMPT}]
    assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content == answer(PROMPT)
    for stream in (False, True):
        door.ask("POST", CHAT, chat_body(f"{PROMPT} {REFUSED_WORD}", stream=stream), key)
        door.ask("POST", CHAT, chat_body(PROMPT, stream=stream, max_tokens=PROMPT), key)
    door.ask("POST", CHAT, b'{"model": "' + PROMPT.encode() + b'"}', key)
    door.ask("POST", CHAT, b'{"messages": "' + PROMPT.encode(), key)
    door.ask("GET", f"/v1/models?after={PROMPT}", key=key)
    lines = [
        {"custom_id": f"l{n}", "method": "POST", "url": CHAT, "body": json.loads(chat_body(content))}
        for n, content in enumerate((PROMPT, f"{PROMPT} {REFUSED_WORD}"))
    ]
    ended = run_batch(client, "".join(json.dumps(line) + "\n" for line in lines))
    assert (ended.status, ended.request_counts.completed, ended.request_counts.failed) == ("completed", 1, 1)
    assert run_batch(client, f'{{"custom_id": "{PROMPT}", \n').status == "failed"
    time.sleep(1)  # the log is written a little later than the answer
    logs = door.fleet.logs()
    assert '"event":"request"' in logs
    for secret in (PROMPT, answer(PROMPT).split()[0], key, key[18:], AWS_SECRET):
        assert secret not in logs, [line for line in logs.splitlines() if secret in line][:3]


def run_batch(client: openai.OpenAI, text: str) -> Any:
    """The batch as it ended."""
    file = client.files.create(file=("x.jsonl", text.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")

    def ended() -> Any:
        found = client.batches.retrieve(batch.id)
        return found if found.status in ("completed", "failed", "expired", "cancelled") else None

    return wait_until(ended, 60, "the batch ended")


def test_a_revoked_key_stops_working(door: Door, revoked: str) -> None:

    def refused_now() -> bool:
        return door.ask("GET", "/v1/models", key=revoked).status == 401

    wait_until(refused_now, REFRESH_S + 30, "the revoked key is refused")
