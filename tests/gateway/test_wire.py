"""The client's side of the wire, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest

from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.http import Endpoint, Request, Response, Route
from llm_fleet.gateway.wire.endpoint import HELD_BYTES
from llm_fleet.gateway.wire.limits import WireLimits
from tests.gateway.engine_stand_in import EngineStandIn, wait_until
from tests.gateway.running_gateway import CHAT, FAST, RunningGateway

HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    with EngineStandIn() as engine:
        yield engine


@pytest.fixture
def gateway(engine: EngineStandIn) -> Iterator[RunningGateway]:
    with RunningGateway([engine]) as gateway:
        yield gateway


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next answer, which has a length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1)
    line, *lines = received.decode().strip().split("\r\n")
    headers = dict(each.split(": ", 1) for each in lines)
    body = b""
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(int(headers["content-length"]) - len(body))
    return int(line.split()[1]), headers, body


def until_close(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_connection_carries_many_requests(gateway: RunningGateway) -> None:
    with gateway.socket() as connection:
        for _ in range(3):
            connection.sendall(gateway.request())
            assert answer(connection)[0] == 200


def test_requests_sent_ahead_are_answered_in_order_one_at_a_time(
    gateway: RunningGateway, engine: EngineStandIn
) -> None:
    engine.orders.append("answer_slowly")
    with gateway.socket() as connection:
        connection.sendall(gateway.request() + HEALTH + gateway.request() + HEALTH)
        bodies = [answer(connection)[2] for _ in range(4)]
    assert [body == b"ok\n" for body in bodies] == [False, True, False, True]


def test_who_sends_far_ahead_is_read_no_further(gateway: RunningGateway, engine: EngineStandIn) -> None:
    engine.orders.append("stall")
    with gateway.socket() as connection:
        connection.sendall(gateway.request())
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.sendall(HEALTH * 1_000_000)


def test_a_body_in_chunks_reaches_the_engine_whole(gateway: RunningGateway, engine: EngineStandIn) -> None:
    body = orjson.dumps(CHAT)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    with gateway.socket() as connection:
        connection.sendall(gateway.request(b"", "/v1/chat/completions", "transfer-encoding: chunked"))
        connection.sendall(chunks + b"0\r\n\r\n")
        assert answer(connection)[0] == 200
    assert engine.requests[0].body == body


def test_who_asks_first_is_told_to_go_on(gateway: RunningGateway) -> None:
    whole = gateway.request(CHAT, "/v1/chat/completions", "expect: 100-continue")
    head, _, body = whole.partition(b"\r\n\r\n")
    with gateway.socket() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert answer(connection)[0] == 100
        connection.sendall(body)
        assert answer(connection)[0] == 200


def test_who_asks_first_without_a_key_is_not_told_to_go_on(gateway: RunningGateway) -> None:
    with gateway.socket() as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n"
        )
        assert answer(connection)[0] == 401


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nbad name: y\r\n\r\n",
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(
    gateway: RunningGateway, request_bytes: bytes
) -> None:
    with gateway.socket() as connection:
        connection.sendall(request_bytes)
        received = until_close(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert orjson.loads(body)["error"]["code"] == "malformed_request"


def test_a_head_that_is_too_large_is_refused(gateway: RunningGateway) -> None:
    with gateway.socket() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 40_000)
        assert until_close(connection).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_is_announced_too_large_is_refused_unread(gateway: RunningGateway) -> None:
    head = gateway.request(b"").replace(b"content-length: 0", b"content-length: 9000000")
    with gateway.socket() as connection:
        connection.sendall(head)
        assert answer(connection)[0] == 413


def test_a_body_that_grows_too_large_is_refused(gateway: RunningGateway) -> None:
    with gateway.socket() as connection:
        connection.sendall(gateway.request(b"", "/v1/chat/completions", "transfer-encoding: chunked"))
        for _ in range(9):
            connection.sendall(b"%x\r\n%b\r\n" % (1 << 20, b"a" * (1 << 20)))
        assert answer(connection)[0] == 413


def test_a_head_that_does_not_end_is_timed_out() -> None:
    with RunningGateway(wire=replace(FAST, head_s=0.1)) as gateway, gateway.socket() as connection:
        connection.sendall(b"GET /health HT")
        assert until_close(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_stops_coming_is_timed_out() -> None:
    with RunningGateway(wire=replace(FAST, body_silence_s=0.1)) as gateway, gateway.socket() as connection:
        connection.sendall(gateway.request()[:-5])
        assert answer(connection)[0] == 408


def test_an_idle_connection_outlives_the_load_balancers_patience() -> None:
    assert WireLimits().idle_s > 900


def test_more_connections_than_may_be_are_refused_and_room_returns() -> None:
    with RunningGateway(wire=replace(FAST, connections=2)) as gateway:
        held = [gateway.socket() for _ in range(2)]
        for connection in held:
            connection.sendall(HEALTH)
            assert answer(connection)[0] == 200
        with gateway.socket() as connection:
            assert until_close(connection).startswith(b"HTTP/1.1 503 ")
        held.pop().close()
        wait_until(lambda: len(gateway.gateway.server.connections) < 2, "there is room")
        with gateway.socket() as connection:
            connection.sendall(HEALTH)
            assert answer(connection)[0] == 200
        held.pop().close()


def test_more_bodies_than_memory_are_refused_and_counted_back() -> None:
    with RunningGateway(wire=replace(FAST, buffered_bytes=100_000)) as gateway:
        head = gateway.request(b"").replace(b"content-length: 0", b"content-length: 1000000")
        with gateway.socket() as connection:
            connection.sendall(head)
            connection.sendall(b"a" * 200_000)
            assert answer(connection)[0] == 503
        wait_until(lambda: gateway.gateway.server.buffered_bytes == 0, "nothing is held")


@pytest.mark.parametrize("given", ["x" * 65, "a b", "é", "a\tb"])
def test_an_id_that_is_not_plain_is_replaced(gateway: RunningGateway, given: str) -> None:
    with gateway.socket() as connection:
        connection.sendall(HEALTH.replace(b"host: x", b"host: x\r\nx-request-id: " + given.encode()))
        assert answer(connection)[1]["x-request-id"].startswith("req-")


def test_a_plain_id_is_kept_and_reaches_the_engine(gateway: RunningGateway, engine: EngineStandIn) -> None:
    with gateway.socket() as connection:
        connection.sendall(gateway.request(CHAT, "/v1/chat/completions", "x-request-id: mine-1"))
        assert answer(connection)[1]["x-request-id"] == "mine-1"
    assert "x-request-id: mine-1\r\n" in engine.requests[0].head


def test_metrics_are_not_shown_through_a_load_balancer(gateway: RunningGateway) -> None:
    with gateway.socket() as connection:
        connection.sendall(HEALTH.replace(b"/health", b"/metrics"))
        assert answer(connection)[0] == 200
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 1.2.3.4\r\n\r\n")
        assert answer(connection)[0] == 404


def test_an_endpoints_body_comes_in_pieces_and_its_answer_goes_in_pieces() -> None:
    async def mirror(request: Request) -> Response:
        return Response(200, request.body, {"content-type": "x/y", "x-given": "a\r\nx-evil: b"})

    with RunningGateway(routes=[Route("POST", "/v1/mirror/{name}", mirror, 20 << 20)]) as gateway:
        body = b"piece " * 500_000
        with gateway.client() as client:
            raw = client.with_options(max_retries=0)._client.post(
                f"http://127.0.0.1:{gateway.port}/v1/mirror/x",
                content=body,
                headers={"authorization": f"Bearer {gateway.key}"},
            )
    assert raw.content == body
    assert "x-evil" not in raw.headers


async def read_late(request: Request) -> Response:
    await asyncio.sleep(0.2)
    return Response(200, b"%d" % len(await request.read()))


async def refuse_unread(request: Request) -> Response:
    await asyncio.sleep(0.2)
    raise ApiError(400, "No.", "refused")


@pytest.mark.parametrize(("endpoint", "status"), [(read_late, 200), (refuse_unread, 400)])
def test_a_connection_is_read_on_after_a_body_that_had_to_wait(endpoint: Endpoint, status: int) -> None:
    with (
        RunningGateway(routes=[Route("POST", "/v1/late", endpoint)]) as gateway,
        gateway.socket() as connection,
    ):
        head = f"POST /v1/late HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        connection.sendall(f"{head}content-length: {HELD_BYTES + 1}\r\n\r\n".encode())
        time.sleep(0.05)  # the endpoint has begun: what comes now is held for it
        connection.sendall(b"x" * (HELD_BYTES + 1))
        assert answer(connection)[0] == status
        connection.sendall(HEALTH)
        assert answer(connection)[0] == 200
