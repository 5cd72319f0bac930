"""The clerk as its own process: killed at any point, told to stop, left alone, wrongly set up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from llm_fleet.batches.results import result_key
from localcloud.cloud import LocalCloud
from tests.batches.batch_world import REGION, BatchWorld, answer, request_line, request_lines

COMMAND = [sys.executable, "-m", "llm_fleet.gateway.clerk"]
PATIENCE_S = 60


@pytest.fixture
def world(aws: LocalCloud) -> BatchWorld:
    """With the clock of the other processes."""
    return BatchWorld(time.time)


def environment(world: BatchWorld, **changes: str) -> dict[str, str]:
    pace = {"POLL_S": "0.05", "LEASE_S": "1", "DEAD_LETTERS_S": "5"}
    return {
        **os.environ,
        "LLM_FLEET_SETTINGS": world.settings.model_dump_json(),
        "AWS_REGION": REGION,
        **{f"LLM_FLEET_CLERK_{name}": value for name, value in pace.items()},
        **changes,
    }


@contextmanager
def clerk(world: BatchWorld) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(COMMAND, env=environment(world), stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(world: BatchWorld, batch_id: str, *statuses: str) -> str:
    status = world.batch(batch_id)["status"]
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if status in statuses:
            return status
        time.sleep(0.1)
        status = world.batch(batch_id)["status"]
    raise AssertionError(f"the batch stays {status}")


@pytest.mark.parametrize("seed", range(2))
def test_a_batch_ends_right_though_its_clerk_is_killed_again_and_again(world: BatchWorld, seed: int):
    total = 400
    chance = random.Random(seed)
    batch_id = world.create(request_lines(total))
    lines_left = list(range(total))
    chance.shuffle(lines_left)
    for _ in range(6):
        with clerk(world) as process:
            assert process.stdout
            process.stdout.readline()  # it has started: what follows hits it at work
            time.sleep(chance.uniform(0, 0.7))
        if world.batch(batch_id)["status"] == "in_progress":
            for line in [lines_left.pop() for _ in range(min(40, len(lines_left)))]:
                world.results.record(batch_id, line, f"id-{line}", answer(status_code=chance.choice([200, 400])))
    with clerk(world):
        until(world, batch_id, "in_progress", "completed")
        for line in lines_left:
            world.results.record(batch_id, line, f"id-{line}", answer())
        until(world, batch_id, "completed")
    sent = {message["line"] for message in world.messages()}
    assert sent == set(range(total))
    batch = world.batch(batch_id)
    output = [line["custom_id"] for line in world.lines_of(batch["output_file_id"])]
    errors = [line["custom_id"] for line in world.lines_of(batch["error_file_id"])]
    assert sorted(output + errors) == sorted(f"id-{line}" for line in range(total))
    for found in (output, errors):
        assert found == sorted(found, key=lambda custom_id: int(custom_id[3:]))
    assert batch["request_counts"] == {"total": total, "completed": len(output), "failed": len(errors)}


def test_a_stopped_clerk_leaves_its_batches_to_the_next_at_once(world: BatchWorld):
    batch_id = world.create(request_lines(3))
    with clerk(world) as process:
        until(world, batch_id, "in_progress")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    events = [orjson.loads(line)["event"] for line in output.splitlines()]
    assert events[0] == "clerk_started"
    assert events[-1] == "clerk_stopped"
    item = world.dynamodb.get_item(
        TableName=world.settings.batch_table, Key={"batch_id": {"S": batch_id}, "item": {"S": "batch"}}
    )["Item"]
    assert "lease_owner" not in item


def test_a_clerk_whose_parent_is_gone_ends(world: BatchWorld):
    parent = textwrap.dedent(
        """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-m", "llm_fleet.gateway.clerk"], stdout=subprocess.PIPE)
        print(child.stdout.readline().decode(), child.pid, flush=True)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", parent], env=environment(world), capture_output=True, text=True, check=True
    )
    pid = int(done.stdout.split()[-1])
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and is_running(pid):
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"LLM_FLEET_SETTINGS": ""}, "no settings document"),
        ({"LLM_FLEET_SETTINGS": "{"}, "LLM_FLEET_SETTINGS"),
        ({"LLM_FLEET_CLERK_POLL_S": "often"}, "LLM_FLEET_CLERK_POLL_S is 'often'"),
        ({"LLM_FLEET_CLERK_LEASE_S": "-1"}, "LLM_FLEET_CLERK_LEASE_S is '-1'"),
    ],
)
def test_bad_settings_end_the_process_with_the_message(world: BatchWorld, changes: dict[str, str], word: str):
    done = subprocess.run(COMMAND, env=environment(world, **changes), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_clerk_waits_out_storage_that_is_not_there(world: BatchWorld):
    batch_id = world.create(request_lines(2))
    results = world.settings.model_copy(update={"batch_files_bucket": "nowhere-at-all"})
    broken = environment(world, LLM_FLEET_SETTINGS=results.model_dump_json())
    process = subprocess.Popen(COMMAND, env=broken, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        for line in process.stdout:
            if orjson.loads(line)["event"] == "step_failed":
                break
        assert process.poll() is None
        assert world.batch(batch_id)["status"] == "validating"
    finally:
        process.kill()
        process.communicate()
    with clerk(world):
        until(world, batch_id, "in_progress")


def test_sixty_megabytes_of_lines_need_no_more_memory_than_one(world: BatchWorld):
    peaks_kb: list[int] = []
    for total in (10, 600):
        lines = [request_line(f"id-{line}", user="x" * 100_000) for line in range(total)]
        batch_id = world.create(b"\n".join(lines))
        with clerk(world) as process:
            until(world, batch_id, "in_progress")
            for line in range(0, total, 100):
                ended = [str(each) for each in range(line, min(line + 100, total))]
                store_results(world, batch_id, ended)
            until(world, batch_id, "completed")
            peaks_kb.append(peak_kb(process.pid))
    assert peaks_kb[1] - peaks_kb[0] < 40_000, peaks_kb


def store_results(world: BatchWorld, batch_id: str, lines: list[str]) -> None:
    """As Results.record would, with one count for a hundred lines."""
    for line in lines:
        result = {"custom_id": f"id-{line}", "response": {"status_code": 200, "body": {}}, "error": None}
        key = result_key(batch_id, int(line))
        world.s3.put_object(Bucket=world.results_bucket, Key=key, Body=orjson.dumps(result))
    item = {"batch_id": {"S": batch_id}, "item": {"S": f"lines#{int(lines[0]) // 100:05d}"}}
    counts = {"ended": {"NS": lines}, "completed": {"N": str(len(lines))}}
    world.dynamodb.put_item(TableName=world.settings.batch_table, Item={**item, **counts})


def peak_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])
