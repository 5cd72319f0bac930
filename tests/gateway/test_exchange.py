"""What happens to a request when its engine, its client or its pool fails it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import openai
import orjson
import pytest

from llm_fleet.gateway.balancing import Lease
from llm_fleet.gateway.settings import ExchangeLimits
from tests.gateway.engine_stand_in import WORDS, EngineStandIn, Order, wait_until
from tests.gateway.running_gateway import CHAT, FAST, POOL, RunningGateway, settings

ANSWER = "".join(WORDS)


@pytest.fixture
def first() -> Iterator[EngineStandIn]:
    with EngineStandIn() as engine:
        yield engine


@pytest.fixture
def second() -> Iterator[EngineStandIn]:
    with EngineStandIn() as engine:
        yield engine


def say(gateway: RunningGateway, *, stream: bool = False) -> str:
    with gateway.client() as client:
        if not stream:
            return client.chat.completions.create(**CHAT).choices[0].message.content or ""
        chunks = client.chat.completions.create(**CHAT, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def preferred_of(gateway: RunningGateway, *engines: EngineStandIn) -> EngineStandIn:
    """The engine that takes this prompt while nothing fails: found by asking."""
    say(gateway)
    [preferred] = [engine for engine in engines if engine.requests]
    return preferred


BEFORE_THE_FIRST_BYTE: tuple[Order, ...] = ("refuse_with_500", "die_unheard")


@pytest.mark.parametrize("order", [*BEFORE_THE_FIRST_BYTE, "die_in_answer"])
def test_another_engine_answers_what_one_failed_to(order: Order, first: EngineStandIn, second: EngineStandIn) -> None:
    with RunningGateway([first, second]) as gateway:
        preferred_of(gateway, first, second).orders.extend((order, order))  # a lost idle connection has one more try
        assert say(gateway) == ANSWER
        assert [line["attempts"] for line in gateway.lines()] == [1, 2]


@pytest.mark.parametrize("order", [*BEFORE_THE_FIRST_BYTE, "die_after_head"])
def test_another_engine_streams_what_one_did_not_begin(
    order: Order, first: EngineStandIn, second: EngineStandIn
) -> None:
    with RunningGateway([first, second]) as gateway:
        preferred_of(gateway, first, second).orders.extend((order, order))  # a lost idle connection has one more try
        assert say(gateway, stream=True) == ANSWER
        assert [line["attempts"] for line in gateway.lines()] == [1, 2]


def test_an_engine_that_refuses_connections_is_never_seen(first: EngineStandIn, second: EngineStandIn) -> None:
    with RunningGateway([first, second]) as gateway:
        preferred_of(gateway, first, second).stop_listening()
        assert [say(gateway) for _ in range(4)] == [ANSWER] * 4


def test_no_more_than_three_engines_are_tried() -> None:
    engines = [EngineStandIn() for _ in range(5)]
    for engine in engines:
        engine.__enter__()
        engine.orders.append("die_unheard")
    with RunningGateway(engines) as gateway, pytest.raises(openai.InternalServerError) as caught:
        say(gateway)
    assert caught.value.code == "engine_failed"
    assert sum(len(engine.requests) for engine in engines) == 3
    for engine in engines:
        engine.__exit__(None, None, None)


def test_the_only_engines_own_error_is_the_answer(first: EngineStandIn) -> None:
    first.orders.append("refuse_with_500")
    with RunningGateway([first]) as gateway, pytest.raises(openai.InternalServerError, match="by order"):
        say(gateway)


@pytest.mark.parametrize("order", ["die_in_answer", "end_without_done"])
def test_a_stream_that_breaks_ends_with_an_error_event(order: Order, first: EngineStandIn) -> None:
    first.orders.append(order)
    with RunningGateway([first]) as gateway:
        with pytest.raises(openai.APIError) as caught:
            say(gateway, stream=True)
        assert "engine" in str(caught.value)
        assert len(first.requests) == 1
        wait_until(lambda: gateway.outstanding() == 0, "the lease ends")
        assert say(gateway, stream=True) == ANSWER  # on a connection that is still in order


def test_half_an_event_is_not_passed_on(first: EngineStandIn) -> None:
    first.orders.append("die_in_answer")
    with RunningGateway([first]) as gateway, gateway.socket() as connection:
        connection.sendall(gateway.request({**CHAT, "stream": True}, "/v1/chat/completions", "connection: close"))
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    events = received.partition(b"\r\n\r\n")[2]
    assert events.endswith(b"0\r\n\r\n")
    *whole, error = re.findall(rb"data: (.*)\n\n", events)
    assert len(whole) == 3
    assert all(orjson.loads(event)["choices"] for event in whole)
    assert orjson.loads(error)["error"]["code"] == "engine_failed"
    assert b"[DONE]" not in received


def test_a_connection_that_the_engine_closed_while_idle_is_no_failure(first: EngineStandIn) -> None:
    with RunningGateway([first]) as gateway:
        say(gateway)
        first.orders.append("die_unheard")  # the second request on this connection: closed as it comes
        assert say(gateway) == ANSWER
        assert [line["attempts"] for line in gateway.lines()] == [1, 1]


def test_connections_to_engines_are_used_again(first: EngineStandIn) -> None:
    with RunningGateway([first]) as gateway:
        for _ in range(5):
            say(gateway)
        say(gateway, stream=True)
    assert first.connections == 1


def test_connections_are_given_up_before_the_engine_closes_them(first: EngineStandIn) -> None:
    with RunningGateway([first], given=settings(engine_keep_alive_seconds=1)) as gateway:
        say(gateway)
        wait_until(lambda: first.open == 0, "the idle connection is closed")


def test_a_client_that_leaves_its_stream_cancels_the_engine(first: EngineStandIn) -> None:
    first.pause_s = 0.05
    with RunningGateway([first]) as gateway:
        with gateway.client() as client:
            stream = client.chat.completions.create(**CHAT, stream=True)
            next(iter(stream))
            stream.close()
        wait_until(lambda: first.cancelled == 1, "the engine sees its client leave")
        wait_until(lambda: gateway.outstanding() == 0, "the lease ends")
        wait_until(lambda: [line["status"] for line in gateway.lines()] == [499], "it is logged as left")


def test_a_client_that_leaves_while_it_waits_leaves_the_line(first: EngineStandIn) -> None:
    with RunningGateway([first], slots=1) as gateway:
        first.orders.extend(("stall", "stall"))
        connections = [gateway.socket() for _ in range(3)]
        for connection in connections:
            connection.sendall(gateway.request())
        wait_until(lambda: gateway.room.waiting("cost_efficient") == 1, "the third waits")
        for connection in connections:
            connection.close()
        wait_until(lambda: gateway.room.waiting("cost_efficient") == 0, "nobody waits")
        wait_until(lambda: gateway.outstanding() == 0, "every lease ends")


def test_who_waits_too_long_is_told_when_to_come_again(first: EngineStandIn) -> None:
    with RunningGateway([first], slots=1, exchange=ExchangeLimits(wait_s=0.1)) as gateway:
        first.orders.extend(("stall", "stall"))
        held = [gateway.socket() for _ in range(2)]
        for connection in held:
            connection.sendall(gateway.request())
        wait_until(lambda: gateway.outstanding() == 2, "the engine is full")
        with pytest.raises(openai.RateLimitError) as caught:
            say(gateway)
        assert caught.value.code == "pool_saturated"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        for connection in held:
            connection.close()


def test_a_flex_request_waits_for_an_empty_pool_to_wake(first: EngineStandIn) -> None:
    said: list[str | None] = []
    with RunningGateway() as gateway:

        def ask() -> None:
            with gateway.client() as client:
                answer = client.chat.completions.create(**CHAT, service_tier="flex")
                said.append(answer.choices[0].message.content)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: gateway.room.waiting("cost_efficient") == 1, "it waits")
        gateway.serve("cost_efficient", first.engine)
        thread.join(10)
    assert said == [ANSWER]


def test_a_request_whose_engine_failed_waits_for_another_that_is_full(
    first: EngineStandIn, second: EngineStandIn
) -> None:
    """The failed engine has a place again, and its breaker is not open yet."""
    first.orders.extend(("die_unheard", "die_unheard"))
    with RunningGateway([first, second], slots=1) as gateway:
        engines = [reading.engine for reading in gateway.balancer.readings(POOL)]
        [at_first] = [engine for engine in engines if engine.port == first.engine.port]

        async def fill_second() -> list[Lease | None]:
            return [gateway.balancer.take(POOL, 1, None, avoid=(at_first,)) for _ in range(2)]

        held = gateway.run(fill_second())
        assert all(held)
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(say(gateway)))
        asking.start()
        wait_until(lambda: gateway.room.waiting(POOL) == 1, "it waits")
        assert len(first.requests) == 1
        for lease in held:
            gateway.call_soon(lease.done, "answered")
        asking.join(20)
        assert answers == [ANSWER]
        assert [(line["attempts"], line["status"]) for line in gateway.lines()] == [(2, 200)]


def test_a_silent_stream_shows_signs_of_life(first: EngineStandIn) -> None:
    first.orders.append("stall_in_stream")
    limits = ExchangeLimits(comment_s=0.1)
    with RunningGateway([first], exchange=limits) as gateway, gateway.socket() as connection:
        connection.sendall(gateway.request({**CHAT, "stream": True}))
        received = b""
        while received.count(b": keep-alive\n\n") < 2:
            received += connection.recv(65_536)
    assert received.count(b"data:") == 2


def test_a_stream_that_stays_silent_ends_with_an_error_event(first: EngineStandIn) -> None:
    first.orders.append("stall_in_stream")
    with RunningGateway([first], exchange=ExchangeLimits(comment_s=0.1, silence_s=0.3)) as gateway:
        with pytest.raises(openai.APIError, match="nothing"):
            say(gateway, stream=True)
        wait_until(lambda: first.cancelled == 1, "the engine is left")


def test_an_engine_that_never_answers_is_a_gateway_timeout(first: EngineStandIn) -> None:
    first.orders.append("stall")
    with RunningGateway([first], exchange=ExchangeLimits(head_s=0.2)) as gateway:
        with pytest.raises(openai.InternalServerError) as caught:
            say(gateway)
        assert caught.value.status_code == 504
        assert gateway.outstanding() == 0


@pytest.mark.parametrize(("order", "stream"), [("die_unheard", False), ("die_in_answer", True)])
def test_what_an_engine_did_is_logged_under_the_id_of_the_request_that_failed(
    order: Order, stream: bool, first: EngineStandIn
) -> None:
    first.orders.append(order)
    with RunningGateway([first]) as gateway:
        with pytest.raises(openai.APIError):
            say(gateway, stream=stream)
        [request] = gateway.lines()
        [failure] = gateway.logged("engine_failed")
    assert failure["error"]
    assert {name: failure[name] for name in ("service", "request_id", "pool", "worker_id", "port", "attempts")} == {
        "service": "gateway",
        "request_id": request["request_id"],
        "pool": request["pool"],
        "worker_id": "i-0",
        "port": first.engine.port,
        "attempts": 1,
    }


def test_a_failure_that_another_engine_made_good_is_not_logged(first: EngineStandIn, second: EngineStandIn) -> None:
    with RunningGateway([first, second]) as gateway:
        preferred_of(gateway, first, second).orders.extend(("die_unheard", "die_unheard"))
        assert say(gateway) == ANSWER
        assert gateway.logged("engine_failed") == []


@pytest.mark.parametrize("order", ["large", "until_close"])
def test_answers_of_every_length_come_whole(order: Order, first: EngineStandIn) -> None:
    first.orders.append(order)
    with RunningGateway([first]) as gateway:
        assert say(gateway) == ANSWER


def test_a_client_of_http_1_0_gets_its_stream_without_chunks(first: EngineStandIn) -> None:
    with RunningGateway([first]) as gateway, gateway.socket() as connection:
        connection.sendall(gateway.request({**CHAT, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0"))
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_gateway_that_ends_finishes_its_streams(first: EngineStandIn) -> None:
    first.pause_s = 0.05
    said: list[str] = []
    with RunningGateway([first]) as gateway:
        thread = threading.Thread(target=lambda: said.append(say(gateway, stream=True)))
        thread.start()
        wait_until(lambda: first.requests, "the stream has begun")
        gateway.run(gateway.gateway.drain(10))
        thread.join(10)
        with pytest.raises(ConnectionRefusedError):
            gateway.socket()
    assert said == [ANSWER]


def test_what_does_not_finish_in_time_is_ended_cleanly(first: EngineStandIn) -> None:
    first.orders.append("stall_in_stream")
    with RunningGateway([first]) as gateway, gateway.socket() as connection:
        connection.sendall(gateway.request({**CHAT, "stream": True}))
        wait_until(lambda: first.requests, "the stream has begun")
        time.sleep(0.1)
        gateway.run(gateway.gateway.drain(0.1))
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert b'"code":"shutting_down"' in received
    assert received.endswith(b"0\r\n\r\n")


def test_a_client_that_reads_slowly_slows_its_engine_down(first: EngineStandIn) -> None:
    first.orders.append("large")
    with RunningGateway([first], wire=replace(FAST, stalled_s=30)) as gateway, gateway.socket() as connection:
        connection.sendall(gateway.request(CHAT, "/v1/chat/completions", "connection: close"))
        time.sleep(0.3)
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert len(received) > 3_000_000
    assert received.endswith(b"0\r\n\r\n")
