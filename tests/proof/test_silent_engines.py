"""Engines that are there and say nothing: real processes, stopped where they stand, over real sockets.

The gateway's time-outs are those of its settings document, short. Whatever happened, nothing stays under way.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from localcloud.cloud import LocalCloud
from tests.proof.answers import MODEL, answer
from tests.proof.door import CHAT, POOL, Door, chat_body, open_door, under_way
from tests.proof.engine import SLOTS
from tests.proof.fleet import Fleet
from tests.proof.processes import wait_until
from tests.proof.raw import Raw, Reply, gauges, request

WAIT_S, HEAD_S, SILENCE_S, COMMENT_S = 1.0, 4.0, 2.0, 0.5
"""Each different, so that the message tells which one it was."""
PLACES = SLOTS + 1
"""At one engine: its slots and the spare place."""


@pytest.fixture(scope="module")
def shared(cloud: LocalCloud, folder: Path) -> Iterator[Door]:
    times = {"wait_s": WAIT_S, "head_s": HEAD_S, "silence_s": SILENCE_S, "comment_s": COMMENT_S}
    fleet = Fleet(cloud, folder, pools=[POOL], exchange=times)
    yield open_door(fleet, engines=1)
    fleet.stop()


@pytest.fixture
def door(shared: Door) -> Iterator[Door]:
    """With one engine. It goes on after the test, whatever the test did to it."""
    shared.engines[0].order("reset")
    yield shared
    shared.engines[0].thaw()
    shared.settle()
    assert shared.is_idle()


def timed_chat(door: Door, prompt: str, **more: Any) -> tuple[Reply, float]:
    """A raw chat request, and the seconds that its answer took."""
    began = time.monotonic()
    reply = door.chat(prompt, **more)
    return reply, time.monotonic() - began


def gives_everything_back(door: Door) -> None:
    """Nothing waits or runs by the gateway's word. The engine itself may not be able to say."""
    wait_until(lambda: not under_way(door.port), 30, "nothing is under way", door.gateway.story)


def request_line(door: Door, reply: Reply) -> dict[str, Any]:
    """What the log says of a request."""
    id = reply.headers["x-request-id"]

    def found() -> dict[str, Any] | None:
        lines = (line for line in door.gateway.events() if line.get("event") == "request")
        return next((line for line in lines if line["request_id"] == id), None)

    return wait_until(found, 30, "the request is in the log")


def check_timeout(reply: Reply, seconds: float, longest_s: float) -> None:
    """The promised answer, no sooner than promised."""
    assert reply.status == 504, reply.body
    error = reply.error()
    assert (error["code"], error["message"]) == ("engine_timeout", f"The engine sent nothing for {longest_s:g} s.")
    assert reply.headers["x-llm-fleet-pool"] == POOL
    assert seconds >= longest_s


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_process_that_accepts_and_never_answers_is_a_gateway_timeout(door: Door, stream: bool) -> None:
    """Stopped, it accepts nothing itself: the system does, and takes the request into its buffer."""
    door.engines[0].freeze()
    reply, seconds = timed_chat(door, "nobody answers", stream=stream)
    check_timeout(reply, seconds, HEAD_S)
    gives_everything_back(door)
    assert request_line(door, reply)["error_code"] == "engine_timeout"
    assert gauges(door.port)[f'llm_fleet_breakers{{pool="{POOL}",state="closed"}}'] == 1, "it may only be slow"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_an_engine_that_took_the_request_and_never_answers_sees_its_client_leave(door: Door, stream: bool) -> None:
    door.engines[0].order("mode", kind="stall")
    reply, seconds = timed_chat(door, "nobody answers", stream=stream)
    check_timeout(reply, seconds, HEAD_S)
    gives_everything_back(door)
    wait_until(lambda: door.engines[0].counts()["left"] == 1, 15, "the engine was told")
    assert door.engines[0].counts()["started"] == 1, "slowness is no reason to send it twice"


def test_a_plain_answer_that_stops_in_its_middle_is_a_gateway_timeout(door: Door) -> None:
    door.engines[0].order("mode", kind="stall", after_chunks=1)
    reply, seconds = timed_chat(door, "half an answer")
    check_timeout(reply, seconds, SILENCE_S)
    gives_everything_back(door)
    wait_until(lambda: door.engines[0].counts()["left"] == 1, 15, "the engine was told")


@pytest.mark.parametrize("how", ["stalls", "is stopped"])
def test_a_stream_that_stops_in_its_middle_lives_on_and_ends_with_an_error_event(door: Door, how: str) -> None:
    frozen = how == "is stopped"
    door.engines[0].order("mode", **({"interval_s": 0.05} if frozen else {"kind": "stall", "after_chunks": 2}))
    began = time.monotonic()
    with Raw(door.port) as connection:
        connection.send(request("POST", CHAT, door.key, chat_body("stops", stream=True, max_tokens=4096)))
        if frozen:
            wait_until(door.in_flight, 30, "the stream has begun")
            time.sleep(0.3)
            door.engines[0].freeze()
        reply = connection.reply()
    assert reply.status == 200
    assert time.monotonic() - began >= SILENCE_S
    *pieces, last = reply.body.decode().removesuffix("\n\n").split("\n\n")
    events = [json.loads(piece.removeprefix("data: ")) for piece in pieces if piece.startswith("data: ")]
    said = "".join(event["choices"][0]["delta"]["content"] for event in events)
    assert said
    assert answer("stops", 4096).startswith(said)
    assert ": keep-alive" in pieces, "the client saw that its stream lives"
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["message"]) == ("engine_timeout", f"The engine sent nothing for {SILENCE_S:g} s.")
    gives_everything_back(door)
    assert request_line(door, reply)["error_code"] == "engine_timeout"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_openai_client_raises_when_an_engine_goes_silent(door: Door, stream: bool) -> None:
    door.engines[0].order("mode", kind="stall", after_chunks=1)
    messages: Any = [{"role": "user", "content": "silence"}]

    def read(client: openai.OpenAI) -> None:
        reply: Any = client.chat.completions.create(model=MODEL, messages=messages, stream=stream)
        for _ in reply:
            pass

    with door.client() as client, pytest.raises(openai.APIError, match="sent nothing for"):
        read(client)
    gives_everything_back(door)


def test_more_requests_than_a_stopped_engine_has_places_all_get_an_answer(door: Door) -> None:
    """Those at the engine run into its silence; those that wait for it are told to come again, earlier."""
    door.engines[0].freeze()
    with ExitStack() as opened:
        connections = [opened.enter_context(Raw(door.port)) for _ in range(PLACES + 3)]
        for number, connection in enumerate(connections):
            connection.send(request("POST", CHAT, door.key, chat_body(f"crowd {number}", stream=number % 2 == 0)))
        replies = [connection.reply() for connection in connections]
    assert Counter(reply.status for reply in replies) == {504: PLACES, 429: 3}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status == 429)
    assert {reply.error()["code"] for reply in replies} == {"engine_timeout", "pool_saturated"}
    gives_everything_back(door)


def test_an_engine_that_goes_on_in_time_is_no_timeout(door: Door) -> None:
    door.engines[0].order("mode", delay_s=HEAD_S / 2)
    reply, seconds = timed_chat(door, "slow")
    assert (reply.status, seconds >= HEAD_S / 2) == (200, True)
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == answer("slow")
