"""Nothing is lost: killed, frozen and doubled workers, and messages that come twice."""

from __future__ import annotations

import signal
import time

from tests.worker.world import EngineProcess, World, eventually


def test_after_sigkill_its_lines_come_back_and_another_worker_does_them(world: World, engine: EngineProcess) -> None:
    with world.worker(world.settings(engine.port), "w-1") as first:
        first.until("serving")
        lines = [world.send(f"line {number}", delay_s=1) for number in range(4)]
        eventually(lambda: engine.facts()["now"])
        first.send(signal.SIGKILL)
        first.ended()
        with world.worker(world.settings(engine.port), "w-2"):
            eventually(lambda: all(world.ended(line) for line in lines))
    assert [world.result(line)["response"]["status_code"] for line in lines] == [200] * 4
    eventually(world.is_empty)
    assert world.counts()["completed"]["N"] == "4"


def test_a_worker_frozen_past_the_visibility_timeout_changes_nothing_when_it_wakes(
    world: World, engine: EngineProcess
) -> None:
    """Its receipt handle is stale by then, and another worker has recorded the line."""
    with world.worker(world.settings(engine.port), "w-1") as frozen:
        frozen.until("serving")
        line = world.send("frozen", delay_s=0.5)
        eventually(lambda: engine.seen("frozen"))
        frozen.send(signal.SIGSTOP)
        with world.worker(world.settings(engine.port), "w-2"):
            eventually(lambda: world.ended(line))
            first = world.result(line)
            frozen.send(signal.SIGCONT)
            eventually(world.is_empty)
            time.sleep(0.5)
            assert world.result(line) == first
            assert world.counts()["completed"]["N"] == "1"
            assert frozen.process.poll() is None
            again = world.send("after it")
            eventually(lambda: world.ended(again))


def test_a_message_sent_twice_has_one_result_and_is_counted_once(world: World, engine: EngineProcess) -> None:
    with world.worker(world.settings(engine.port)) as worker:
        worker.until("serving")
        body: list[str] = []
        send = world.sqs.send_message
        world.sqs.send_message = lambda **call: (body.append(call["MessageBody"]), send(**call))
        line = world.send("twice")
        send(QueueUrl=world.queue_url, MessageBody=body[0])
        eventually(lambda: engine.seen("twice") == 2)
        eventually(world.is_empty)
        assert world.ended(line)
        assert world.counts()["completed"]["N"] == "1"


def test_an_answer_waits_for_a_store_that_fails_and_is_not_asked_for_again(world: World, engine: EngineProcess) -> None:
    bucket = world.settings(engine.port)["batch_results_bucket"]
    with world.worker(world.settings(engine.port, worker={"record_retry_s": 60})) as worker:
        worker.until("serving")
        world.s3.delete_bucket(Bucket=bucket)
        line = world.send("dear")
        worker.until("result_not_recorded_yet")
        world.s3.create_bucket(Bucket=bucket)
        eventually(lambda: world.ended(line))
        assert engine.seen("dear") == 1
        assert world.result(line)["response"]["status_code"] == 200


def test_a_line_whose_result_cannot_be_stored_goes_back_unharmed_however_often(
    world: World, engine: EngineProcess
) -> None:
    """Three times, with two receives allowed."""
    bucket = world.settings(engine.port)["batch_results_bucket"]
    with world.worker(world.settings(engine.port, worker={"record_retry_s": 0.01})) as worker:
        worker.until("serving")
        world.s3.delete_bucket(Bucket=bucket)
        line = world.send("unlucky")
        eventually(lambda: len(worker.events("line_given_back")) >= 3)
        world.s3.create_bucket(Bucket=bucket)
        eventually(lambda: world.ended(line))
        assert world.result(line)["response"]["status_code"] == 200
        assert world.dead() == []
