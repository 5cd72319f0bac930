"""What the fleet is told while a worker serves, and what the worker does when its engine fails or is busy."""

from __future__ import annotations

import time

from tests.worker.autoscaling_stand_in import AutoScalingStandIn
from tests.worker.imds_stand_in import ImdsStandIn, instance
from tests.worker.world import INSTANCE_TYPE, EngineProcess, World, eventually

INSTANCE = instance("i-1", INSTANCE_TYPE, "the-group")


def test_ready_means_a_generated_token_and_only_then_it_registers_leases_and_lets_the_launch_hook_go(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    engine.control(probe=500)
    line = world.send("early")
    with (
        ImdsStandIn(INSTANCE) as imds,
        world.worker(
            world.settings(engine.port),
            AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.url,
            AWS_ENDPOINT_URL_AUTO_SCALING=group.url,
        ) as worker,
    ):
        eventually(lambda: imds.tokens)
        time.sleep(1)
        assert world.registered() == ()
        assert world.in_queue() == (1, 0)
        assert group.calls == []
        engine.control(probe=200)
        worker.until("serving")
        eventually(lambda: world.result(line))
        assert group.completed() == [("launch", "CONTINUE")]
        assert group.calls[0]["InstanceId"] == "i-1"
        assert group.calls[0]["AutoScalingGroupName"] == "the-group"
        entry = world.registered()[0]
        assert (entry.worker_id, entry.state, entry.units, entry.instance_type) == ("i-1", "serving", 2, INSTANCE_TYPE)
        assert [(each.host, each.port, each.slots) for each in entry.engines] == [("127.0.0.1", engine.port, 8)]


def test_the_entry_is_refreshed_with_the_load(world: World, engine: EngineProcess) -> None:
    with world.worker(world.settings(engine.port)) as worker:
        worker.until("serving")
        first = eventually(world.registered)[0]
        engine.control(running=3)
        world.send("held", delay_s=3)
        eventually(lambda: world.registered()[0].leased == 1 and world.registered()[0].running == 4)
        assert world.registered()[0].expires_at > first.expires_at


def test_a_launch_hook_that_could_not_be_completed_is_completed_later(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    group.refused["CompleteLifecycleAction"] = "Rate exceeded"
    with (
        ImdsStandIn(INSTANCE) as imds,
        world.worker(
            world.settings(engine.port),
            AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.url,
            AWS_ENDPOINT_URL_AUTO_SCALING=group.url,
        ) as worker,
    ):
        worker.until("hook_not_completed")
        group.refused.clear()
        worker.until("hook_completed")


def test_an_engine_that_generates_nothing_gets_no_lines_and_the_instance_is_given_up_once(
    world: World, engine: EngineProcess, group: AutoScalingStandIn
) -> None:
    """It stalls: lines and probes hang, while its metrics page answers."""
    with (
        ImdsStandIn(INSTANCE) as imds,
        world.worker(
            world.settings(engine.port, worker={"unhealthy_after_s": 2}),
            AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.url,
            AWS_ENDPOINT_URL_AUTO_SCALING=group.url,
        ) as worker,
    ):
        worker.until("serving")
        engine.control(probe=0, delay_s=3600)
        stuck = world.send("stuck")
        eventually(lambda: world.state() == "failing")
        assert worker.until("line_given_back")["cause"] in ("engine_stalled", "no engine generates tokens")
        eventually(lambda: world.in_queue() == (1, 0))
        eventually(lambda: group.of("SetInstanceHealth"))
        assert group.of("SetInstanceHealth")[0]["HealthStatus"] == "Unhealthy"
        engine.control(probe=200, delay_s=0)
        eventually(lambda: world.state() == "serving")
        eventually(lambda: world.result(stuck))
        assert len(group.of("SetInstanceHealth")) == 1


def test_an_engine_that_refuses_probes_while_it_generates_for_others_is_not_given_up(
    world: World, engine: EngineProcess
) -> None:
    with world.worker(world.settings(engine.port)) as worker:
        worker.until("serving")
        engine.control(probe=503, generates=5)
        line = world.send("fault", status=500)
        eventually(lambda: world.ended(line))
        time.sleep(1)
        assert worker.events("engine_generates_nothing") == []
        assert world.state() == "serving"


def test_an_engine_that_crashes_and_comes_back_loses_no_line(world: World) -> None:
    """Five lines, each of which may be received twice; the crash costs one."""
    engine = EngineProcess()
    with world.worker(world.settings(engine.port)) as worker:
        worker.until("serving")
        lines = [world.send(f"line {number}", delay_s=1) for number in range(5)]
        eventually(lambda: engine.facts()["now"])
        engine.stop()
        eventually(lambda: world.state() == "failing")
        engine = EngineProcess(engine.port)
        eventually(lambda: all(world.ended(line) for line in lines))
        assert [world.result(line)["response"]["status_code"] for line in lines] == [200] * 5
    engine.stop()


def test_lines_run_side_by_side_up_to_the_engines_slots(world: World, engine: EngineProcess) -> None:
    with world.worker(world.settings(engine.port)) as worker:
        worker.until("serving")
        lines = [world.send(delay_s=0.3) for _ in range(40)]
        eventually(lambda: all(world.result(line) for line in lines))
        assert engine.facts()["most"] == 8


def test_batch_work_yields_while_requests_of_others_wait(world: World, engine: EngineProcess) -> None:
    with world.worker(world.settings(engine.port)) as worker:
        worker.until("serving")
        engine.control(running=8, waiting=2)
        looks = engine.facts()["looks"]
        eventually(lambda: engine.facts()["looks"] > looks + 5)
        lines = [world.send(delay_s=0.2) for _ in range(4)]
        eventually(lambda: all(world.result(line) for line in lines))
        assert engine.facts()["most"] == 1
