"""What becomes of a line: one worker for all of them, since lines do not know each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localcloud.cloud import LocalCloud
from tests.worker.world import EngineProcess, WorkerProcess, World, eventually


@dataclass(frozen=True)
class Running:
    world: World
    engine: EngineProcess
    worker: WorkerProcess


@pytest.fixture(scope="module")
def running(shared_cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("lines")
    world, engine = World(shared_cloud, folder), EngineProcess()
    world.batch()
    with world.worker(world.settings(engine.port, worker={"answer_timeout_s": 5})) as worker:
        worker.until("serving")
        yield Running(world, engine, worker)
        assert worker.process.poll() is None, worker.errors
        assert not [line for line in worker.log if "worker_error" in str(line)]
    engine.stop()


def test_a_line_is_answered_recorded_counted_and_deleted(running: Running) -> None:
    line = running.world.send("plain")
    result = eventually(lambda: running.world.result(line))
    assert result["custom_id"] == f"c{line}"
    assert result["response"]["status_code"] == 200
    assert result["response"]["request_id"] == "req-of-the-engine"
    assert result["response"]["body"]["usage"] == {"completion_tokens": 7}
    assert result["error"] is None
    eventually(lambda: running.world.ended(line))
    eventually(running.world.is_empty)


def test_the_engine_gets_the_bytes_that_the_user_wrote(running: Running) -> None:
    body = '{"model":"m",  "marker":"as-it-stands", "n": 12345678901234567890123, "é": "\\ud83d", "a": 1, "a": 2}'
    line = running.world.send(raw=f'{{"method": "POST", "body": {body}, "custom_id": "x"}}')
    eventually(lambda: running.world.result(line))
    assert body in running.engine.facts()["seen"]


def test_a_4xx_answer_is_the_lines_result(running: Running) -> None:
    line = running.world.send("bad request", status=400)
    result = eventually(lambda: running.world.result(line))
    assert result["response"]["status_code"] == 400
    eventually(lambda: running.world.ended(line))
    assert running.engine.seen("bad request") == 1
    assert int(running.world.counts()["failed"]["N"]) >= 1


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"status": 500}, "engine_error"),
        ({"status": 302}, "engine_error"),
        ({"cut": "at once"}, "engine_cut"),
        ({"cut": "half"}, "engine_cut"),
        ({"not_json": True}, "engine_answer_invalid"),
        ({"delay_s": 3600}, "engine_timeout"),
    ],
    ids=["5xx", "redirect", "cut", "half an answer", "no JSON", "too slow"],
)
def test_a_fault_is_tried_again_and_at_the_last_receive_it_is_the_result(
    running: Running, wish: dict[str, Any], code: str
) -> None:
    marker = f"fault {'-'.join(wish)}"
    line = running.world.send(marker, **wish)
    result = eventually(lambda: running.world.result(line))
    assert result["response"] is None
    assert result["error"]["code"] == code
    eventually(lambda: running.world.ended(line))
    tries = [event for event in running.worker.events("line_given_back") if event["line"] == line]
    assert [event["receives"] for event in tries] == [1]
    dead = eventually(lambda: [message for message in running.world.dead() if f'"line":{line},' in message["Body"]])
    assert dead[0]["MessageAttributes"]["cause"]["StringValue"].startswith(f"{code}: ")


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_engine_is_asked_again_however_often_and_the_line_is_not_poison(
    running: Running, status: int
) -> None:
    """Five times, with two receives allowed."""
    line = running.world.send(f"overload {status}", status=status)
    eventually(
        lambda: sum(event["line"] == line for event in running.worker.events("line_given_back")) >= 5,
        "the line was not tried again",
    )
    assert running.world.result(line) is None
    assert not running.world.ended(line)
    running.world.batch("cancelled")
    eventually(running.world.is_empty)
    running.world.batch()


@pytest.mark.parametrize("status", ["cancelling", "cancelled", "expired", "failed", "completed"])
def test_a_line_that_nobody_wants_any_more_never_reaches_the_engine(running: Running, status: str) -> None:
    world = running.world
    world.batch(status)
    line = world.send(f"unwanted {status}")
    eventually(lambda: [event for event in running.worker.events("line_dropped") if event["line"] == line])
    eventually(world.is_empty)
    world.batch()
    assert running.engine.seen(f"unwanted {status}") == 0
    assert world.result(line) is None


def test_a_line_past_its_deadline_never_reaches_the_engine(running: Running) -> None:
    running.world.send("too late", deadline_s=-1)
    eventually(running.world.is_empty)
    assert running.engine.seen("too late") == 0


def test_a_message_that_is_no_line_is_buried_with_its_cause(running: Running) -> None:
    running.world.sqs.send_message(QueueUrl=running.world.queue_url, MessageBody="hello")
    dead = eventually(lambda: [message for message in running.world.dead() if message["Body"] == "hello"])
    assert dead[0]["MessageAttributes"]["cause"]["StringValue"].startswith("not_a_line: ")
    eventually(running.world.is_empty)


def test_a_line_of_a_batch_that_does_not_exist_is_buried_with_its_cause(running: Running) -> None:
    world = running.world
    known, world.batch_id = world.batch_id, "batch_gone"
    line = world.send("of no batch")
    world.batch_id = known
    dead = eventually(lambda: [message for message in world.dead() if f'"line":{line},' in message["Body"]])
    assert dead[0]["MessageAttributes"]["cause"]["StringValue"].startswith("no_such_batch: ")
    assert running.engine.seen("of no batch") == 0


@pytest.mark.parametrize("raw", ["no json", "[]", '{"body": 3}', "{}", '{"body": {}'])
def test_a_line_without_a_request_fails_by_name_and_never_reaches_the_engine(running: Running, raw: str) -> None:
    line = running.world.send(raw=raw)
    result = eventually(lambda: running.world.result(line))
    assert result["error"]["code"] == "invalid_line"


def test_a_line_whose_file_is_gone_fails_by_name(running: Running) -> None:
    world = running.world
    world.batch("validating")
    number = world.lines
    real = world.s3.put_object
    world.s3.put_object = lambda **_: None
    try:
        world.send("gone")
    finally:
        world.s3.put_object = real
    result = eventually(lambda: world.result(number))
    assert result["error"]["code"] == "input_missing"
    world.batch()


def test_a_line_that_comes_again_with_a_result_is_counted_and_not_run_again(running: Running) -> None:
    """A worker died between storing and counting: its message comes a second time."""
    world = running.world
    line = world.lines
    stands = {"custom_id": f"c{line}", "response": {"status_code": 200, "body": {}}, "error": None}
    world.store_result(line, stands)
    assert world.send("done before", status=500) == line
    eventually(lambda: world.ended(line))
    eventually(world.is_empty)
    assert running.engine.seen("done before") == 1, "the first receive does not look, the second does"
    assert world.result(line) == stands


def test_work_that_lasts_longer_than_the_visibility_timeout_is_done_once(running: Running) -> None:
    """3 s of visibility timeout, 4 s of work."""
    line = running.world.send("long", delay_s=4)
    eventually(lambda: running.world.result(line))
    eventually(lambda: running.world.ended(line))
    assert running.engine.seen('"marker": "long"') == 1
    eventually(running.world.is_empty)
