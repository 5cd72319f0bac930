"""Leaving: nothing new, what runs may finish, the rest goes back at once."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Generator
from typing import Any

import pytest

from tests.worker.autoscaling_stand_in import AutoScalingStandIn
from tests.worker.imds_stand_in import REBALANCE, SPOT, TARGET_STATE, ImdsStandIn, instance
from tests.worker.world import INSTANCE_TYPE, EngineProcess, WorkerProcess, World, eventually

HOOKS = {"launch": "launch", "terminate": "drain"}


@contextlib.contextmanager
def on_instance(
    world: World,
    engine: EngineProcess,
    group: AutoScalingStandIn,
    drain_s: int = 20,
    texts: dict[str, str] | None = None,
) -> Generator[tuple[ImdsStandIn, WorkerProcess]]:
    """A worker on an instance of a group."""
    document: dict[str, Any] = world.settings(engine.port, hooks=HOOKS | {"drain_seconds": drain_s})
    with (
        ImdsStandIn(instance("i-1", INSTANCE_TYPE, "the-group") | (texts or {})) as imds,
        world.worker(
            document, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.url, AWS_ENDPOINT_URL_AUTO_SCALING=group.url
        ) as worker,
    ):
        yield imds, worker


@pytest.mark.parametrize(
    ("path", "text"),
    [(SPOT, '{"action": "terminate", "time": "2026-01-01T00:00:00Z"}'), (TARGET_STATE, "Terminated")],
    ids=["spot notice", "scale-in"],
)
def test_an_instance_that_leaves_finishes_its_lines_takes_no_new_ones_and_lets_the_hook_go(
    world: World, engine: EngineProcess, group: AutoScalingStandIn, path: str, text: str
) -> None:
    with on_instance(world, engine, group) as (imds, worker):
        worker.until("serving")
        running = world.send("running", delay_s=2)
        eventually(lambda: engine.seen("running"))
        imds.texts[path] = text
        eventually(lambda: world.state() == "draining")
        worker.until("leaving")
        late = world.send("late")
        assert worker.ended() == 0
        assert world.ended(running)
        assert world.result(late) is None
        assert world.in_queue() == (1, 0)
        assert world.registered() == ()
        assert group.completed() == [("launch", "CONTINUE"), ("drain", "CONTINUE")]


def test_interactive_requests_may_finish_before_the_hook_goes(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    """The hook's heartbeats go on meanwhile, at a third of the drain."""
    with on_instance(world, engine, group, drain_s=6) as (imds, worker):
        worker.until("serving")
        engine.control(running=1)
        eventually(lambda: world.registered()[0].running == 1)
        imds.texts[TARGET_STATE] = "Terminated"
        eventually(lambda: group.of("RecordLifecycleActionHeartbeat"))
        assert group.of("RecordLifecycleActionHeartbeat")[0]["LifecycleHookName"] == "drain"
        assert worker.process.poll() is None
        assert world.state() == "draining"
        engine.control(running=0)
        assert worker.ended() == 0
        assert group.completed()[-1] == ("drain", "CONTINUE")


def test_what_does_not_finish_in_time_goes_back_at_once_even_at_its_last_receive(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    """Two receives are allowed: a message given back for the second time would be moved away by SQS."""
    line = world.send("endless", delay_s=3600)
    for _ in range(2):
        with on_instance(world, engine, group, drain_s=1) as (imds, worker):
            before = engine.seen("endless")
            eventually(lambda before=before: engine.seen("endless") > before)
            imds.texts[TARGET_STATE] = "Terminated"
            assert worker.ended() == 0
            assert world.in_queue() == (1, 0)
    assert world.result(line) is None
    assert world.dead() == []


def test_a_second_reason_only_shortens_the_budget(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    with on_instance(world, engine, group, drain_s=2) as (imds, worker):
        worker.until("serving")
        world.send("endless", delay_s=3600)
        eventually(lambda: engine.seen("endless"))
        imds.texts[TARGET_STATE] = "Terminated"
        worker.until("leaving")
        imds.texts[SPOT] = '{"action": "terminate"}'
        assert worker.ended() == 0
        assert [event["reason"] for event in worker.events("leaving")] == ["terminated", "spot"]
        assert worker.events("leaving")[1]["budget_s"] <= 2
        assert len(group.completed()) == 2


def test_sigterm_alone_drains_the_lines_and_leaves_the_hook_alone(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    with on_instance(world, engine, group) as (_, worker):
        worker.until("serving")
        line = world.send("running", delay_s=1)
        eventually(lambda: engine.seen("running"))
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0
        assert world.ended(line)
        assert world.registered() == ()
        assert group.completed() == [("launch", "CONTINUE")]


def test_a_rebalance_recommendation_changes_nothing_but_the_log(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    with on_instance(world, engine, group) as (imds, worker):
        worker.until("serving")
        imds.texts[REBALANCE] = '{"noticeTime": "2026-01-01T00:00:00Z"}'
        worker.until("rebalance_recommended")
        line = world.send("after it")
        eventually(lambda: world.ended(line))
        assert world.state() == "serving"
        assert len(worker.events("rebalance_recommended")) == 1


def test_a_worker_that_starts_on_a_leaving_instance_never_serves(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    """systemd starts it again after it left, for the seconds that the instance still has."""
    with on_instance(world, engine, group, texts={TARGET_STATE: "Terminated"}) as (_, worker):
        assert worker.ended() == 0
        assert worker.events("serving") == []
        assert world.registered() == ()
        assert group.completed() == [("drain", "CONTINUE")]


def test_a_metadata_service_that_falls_silent_is_no_notice_and_an_expired_token_is_renewed(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    with on_instance(world, engine, group) as (imds, worker):
        worker.until("serving")
        imds.expire_tokens()
        eventually(lambda: imds.tokens)
        imds.__exit__(None, None, None)
        worker.until("metadata_unknown")
        line = world.send()
        eventually(lambda: world.ended(line))
        time.sleep(0.3)
        assert worker.process.poll() is None


def test_a_worker_whose_engine_never_came_stops_when_it_is_told_to(world: World, engine: EngineProcess) -> None:
    engine.control(probe=500)
    with (
        ImdsStandIn(instance("i-1", INSTANCE_TYPE, "the-group")) as imds,
        world.worker(world.settings(engine.port), AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.url) as worker,
    ):
        imds.texts[REBALANCE] = "{}"
        worker.until("rebalance_recommended")
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0
        assert worker.events("serving") == []
