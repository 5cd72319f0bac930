"""An engine that fails: before its first byte nobody notices, after it the client is told. No hang, no leak."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from localcloud.cloud import LocalCloud
from tests.proof.answers import MODEL, answer
from tests.proof.door import CHAT, POOL, Door, chat_body, open_door
from tests.proof.fleet import Fleet
from tests.proof.processes import wait_until
from tests.proof.raw import Raw, gauges, request

TOKENS = 6


@pytest.fixture(scope="module")
def shared(cloud: LocalCloud, folder: Path) -> Iterator[Door]:
    fleet = Fleet(cloud, folder, pools=[POOL])
    yield open_door(fleet, engines=2)
    fleet.stop()


@pytest.fixture
def door(shared: Door) -> Iterator[Door]:
    yield shared
    shared.settle()


def say(client: openai.OpenAI, prompt: str, *, stream: bool) -> str:
    """What the model says to a prompt."""
    messages: Any = [{"role": "user", "content": prompt}]
    if not stream:
        whole = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=TOKENS)
        return whole.choices[0].message.content or ""
    chunks = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=TOKENS, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def ask_until_met(door: Door, met: Any, *, stream: bool) -> None:
    """Ask, checking every answer, until the failing engine has been asked too."""
    numbers = iter(range(10_000))

    def asked() -> bool:
        prompt = f"question {next(numbers)} {time.monotonic()}"
        with door.client() as client:
            assert say(client, prompt, stream=stream) == answer(prompt, TOKENS)
        return met()

    wait_until(asked, 60, "the failing engine was asked")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param({"kind": "cut"}, id="cut"),
        pytest.param({"kind": "error", "status": 500}, id="500"),
        pytest.param({"kind": "error", "status": 502}, id="502"),
        pytest.param({"kind": "error", "status": 503}, id="503"),
    ],
)
def test_an_engine_that_fails_before_its_first_byte_is_never_seen(
    door: Door, mode: dict[str, Any], stream: bool
) -> None:
    door.engines[0].order("reset")
    door.engines[0].order("mode", **mode)
    ask_until_met(door, lambda: door.engines[0].counts()["failed"] >= 2, stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_an_engine_that_refuses_connections_is_never_seen(door: Door, stream: bool) -> None:
    before = attempts_beyond_requests(door)
    door.engines[0].order("refuse")
    ask_until_met(door, lambda: attempts_beyond_requests(door) > before, stream=stream)


def attempts_beyond_requests(door: Door) -> float:
    """How often the gateway went on to another engine."""
    said = gauges(door.port)
    requests = sum(v for name, v in said.items() if name.startswith(f'llm_fleet_requests_total{{pool="{POOL}"'))
    return said[f'llm_fleet_attempts_total{{pool="{POOL}"}}'] - requests


def test_an_engine_killed_with_many_requests_before_their_first_byte_is_never_seen(door: Door) -> None:
    """Twelve streams wait for their first byte on two engines when one of them dies."""
    for engine in door.engines:
        engine.order("mode", delay_s=2)
    prompts = [f"waits {number}" for number in range(12)]
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(Raw(door.port)) for _ in prompts]
        for connection, prompt in zip(connections, prompts, strict=True):
            connection.send(request("POST", CHAT, door.key, chat_body(prompt, stream=True, max_tokens=TOKENS)))
        wait_until(lambda: door.in_flight() == len(prompts), 30, "all requests are at an engine")
        assert door.engines[0].counts()["in_flight"] > 0
        door.engines[0].kill()
        bodies = [connection.reply().body for connection in connections]
    for body, prompt in zip(bodies, prompts, strict=True):
        assert answer(prompt).split()[0].encode() in body
        assert body.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in body


BROKEN_STREAMS = [
    pytest.param({"kind": "cut", "after_chunks": 2}, id="cut"),
    pytest.param("kill", id="killed"),
]


@pytest.mark.parametrize("how", BROKEN_STREAMS)
def test_a_stream_that_breaks_ends_with_an_error_event(door: Door, how: Any) -> None:
    break_streams(door, how)
    with Raw(door.port) as connection:
        connection.send(request("POST", CHAT, door.key, chat_body("breaks", stream=True, max_tokens=400)))
        if how == "kill":
            kill_the_busy_engine(door)
        reply = connection.reply()
    assert reply.status == 200
    events = [line.removeprefix("data: ") for line in reply.body.decode().split("\n\n") if line.startswith("data: ")]
    assert len(events) >= 3
    assert json.loads(events[0])["choices"][0]["delta"]["content"] == answer("breaks").split()[0]
    failures = [json.loads(event) for event in events if event != "[DONE]" and "error" in json.loads(event)]
    assert len(failures) == 1
    assert set(failures[0]["error"]) >= {"message", "type", "code"}
    wait_until(door.is_idle, 30, "nothing is under way")


@pytest.mark.parametrize("how", BROKEN_STREAMS)
def test_the_openai_client_raises_when_a_stream_breaks(door: Door, how: Any) -> None:
    break_streams(door, how)
    messages: Any = [{"role": "user", "content": "breaks"}]
    pieces: list[str] = []

    def read(client: openai.OpenAI) -> None:
        for chunk in client.chat.completions.create(model=MODEL, messages=messages, max_tokens=400, stream=True):
            pieces.append(chunk.choices[0].delta.content or "")
            if how == "kill" and len(pieces) == 2:
                kill_the_busy_engine(door)

    with door.client() as client, pytest.raises(openai.APIError):
        read(client)
    assert answer("breaks", 400).startswith("".join(pieces))
    assert pieces


def break_streams(door: Door, how: Any) -> None:
    for engine in door.engines:
        engine.order("mode", **(how if isinstance(how, dict) else {"interval_s": 0.05}))


def kill_the_busy_engine(door: Door) -> None:
    def busy() -> Any:
        return next((engine for engine in door.engines if engine.counts()["in_flight"]), None)

    engine = wait_until(busy, 30, "an engine is busy")
    time.sleep(0.3)
    engine.kill()


def test_a_plain_answer_that_breaks_in_its_middle_is_an_error_and_no_hang(door: Door) -> None:
    for engine in door.engines:
        engine.order("mode", kind="cut", after_chunks=1)
    with door.client() as client, pytest.raises((openai.APIConnectionError, openai.APIStatusError)):
        say(client, "breaks", stream=False)
    wait_until(door.is_idle, 30, "nothing is under way")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_client_that_leaves_before_the_first_byte_cancels_at_the_engine(door: Door, stream: bool) -> None:
    for engine in door.engines:
        engine.order("reset")
        engine.order("mode", delay_s=30)
    with Raw(door.port) as connection:
        connection.send(request("POST", CHAT, door.key, chat_body("leaves", stream=stream)))
        wait_until(lambda: door.in_flight() == 1, 30, "the request is at an engine")
    wait_until(lambda: sum(engine.counts()["left"] for engine in door.engines) == 1, 15, "the engine was told")
    wait_until(door.is_idle, 15, "nothing is under way")


def test_a_client_that_leaves_in_mid_stream_cancels_at_the_engine(door: Door) -> None:
    for engine in door.engines:
        engine.order("reset")
        engine.order("mode", interval_s=0.1)
    messages: Any = [{"role": "user", "content": "leaves"}]
    with door.client() as client:
        stream = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1000, stream=True)
        next(iter(stream))
        stream.close()
    wait_until(lambda: sum(engine.counts()["left"] for engine in door.engines) == 1, 15, "the engine was told")
    wait_until(door.is_idle, 15, "nothing is under way")


def test_a_hundred_clients_that_leave_at_any_moment_leave_nothing_behind(door: Door, rng: Any) -> None:
    for engine in door.engines:
        engine.order("mode", interval_s=0.01)
    for number in range(100):
        with Raw(door.port) as connection:
            whole = request("POST", CHAT, door.key, chat_body(f"{number}", stream=rng.random() < 0.7, max_tokens=50))
            connection.send(whole[: rng.randrange(1, len(whole) + 1)])
            time.sleep(rng.random() * 0.05)
    wait_until(door.is_idle, 30, "nothing is under way")


def test_a_gateway_that_is_stopped_finishes_its_streams(shared: Door) -> None:
    """A second task of the same fleet: it ends, the first one goes on."""
    for engine in shared.engines:
        engine.order("mode", interval_s=0.2)
    second = Door(shared.fleet, shared.fleet.start_gateway("--no-clerk"), shared.engines, shared.workers)
    messages: Any = [{"role": "user", "content": "is finished"}]
    with second.client() as client:
        stream = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=20, stream=True)
        pieces = [next(iter(stream)).choices[0].delta.content or ""]
        second.gateway.signal(signal.SIGTERM)
        pieces += [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == answer("is finished", 20)
    assert second.gateway.popen.wait(60) == 0
    shared.settle()
