"""How many lines of batches one worker process does a second when its engine answers at once, and what limits it.

The worker is the real one, against a local cloud whose SQS, S3 and DynamoDB are emulated by one Python process, so the
rate measured is that of the pair, and the CPU time of each a line says which of the two is the limit. The worker has
one core to itself, the cloud another. Then the same calls are made one at a time, in this process, for their CPU
microseconds a line here and in the emulator.

    python bench/worker.py [--lines N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from _record import record

from bench.gateway_load import tools
from bench.gateway_load.fleet import POOL, Fleet
from bench.gateway_load.lines import ended_lines, start_batch
from bench.gateway_load.process_tree import busy_s, cpu_s, find
from bench.gateway_load.tools import LOAD_CORE, MODEL, PROXY_CORE, BenchError, on_core
from llm_fleet import aws
from llm_fleet.batches.ledger import BatchLedger
from llm_fleet.batches.messages import LineMessage
from llm_fleet.batches.results import Answer, result_key, result_line
from llm_fleet.worker.engine import Call
from llm_fleet.worker.line_body import request_of
from localcloud.cloud import LocalCloud, free_port

FOLDER = Path(__file__).parents[1] / ".bench"
LINES = 3000
PART_LINES = 300
ROUNDS = 3
SLOTS = 32
"""Lines that the engine takes at once."""
TIMEOUT_S = 180
INSTANCE_TYPE = "bench.none"
BATCH = 10
"""Messages of one receive."""
CALLS_PER_LINE = {"receive": 0.1, "get_line": 1, "engine": 1, "put_result": 1, "count": 1, "delete": 1}


@contextlib.contextmanager
def worker(fleet: Fleet, engine_port: int) -> Generator[int]:
    """The worker's process; gives its id."""
    settings = {
        "version": 1,
        "pattern": "bench",
        "pool": POOL,
        "region": fleet.cloud.region,
        "queue_url": fleet.queue_urls["work"],
        "dead_letter_queue_url": fleet.queue_urls["dead"],
        "registry_table": "registry",
        "batch_table": "batches",
        "batch_files_bucket": "files",
        "batch_results_bucket": "results",
        "hooks": {"launch": "launch", "terminate": "terminate", "drain_seconds": 60},
        "engine": {"port": engine_port},
        "model": {"served_model_name": MODEL},
        "instance_types": {INSTANCE_TYPE: {"replicas": 1, "max_num_seqs": SLOTS, "capacity_weight": 1}},
    }
    file = FOLDER / "worker.json"
    file.write_text(json.dumps(settings))
    words = ["-m", "llm_fleet.worker", "--settings", str(file), "--worker-id", "bench-0", "--host", "127.0.0.1"]
    command = [sys.executable, *words, "--instance-type", INSTANCE_TYPE]
    with (FOLDER / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            on_core(PROXY_CORE, command),
            env=fleet.cloud.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def measure_rate(fleet: Fleet, engine_port: int, cloud_pid: int, lines: int) -> dict[str, float]:
    """One batch through the worker. The first tenth, in which it starts, is left out.

    Raises:
        BenchError: it is not done within TIMEOUT_S.
    """
    batch_id = start_batch(fleet, lines)[0].batch_id
    with worker(fleet, engine_port) as pid:
        deadline = time.monotonic() + TIMEOUT_S
        first = last = (0, 0.0, 0.0, 0.0, 0.0)
        while last[0] < lines:
            time.sleep(0.2)
            if time.monotonic() > deadline:
                raise BenchError(f"{last[0]} of {lines} lines within {TIMEOUT_S} s: see {FOLDER / 'worker.log'}")
            done = ended_lines(fleet, batch_id)
            last = (done, time.perf_counter(), cpu_s(pid), cpu_s(cloud_pid), busy_s())
            if first[0] < lines / 10:
                first = last
    count, elapsed_s, worker_s, emulator_s, all_s = (b - a for a, b in zip(first, last, strict=True))
    return {
        "lines_per_s": count / elapsed_s,
        "worker_cpu_us_per_line": worker_s * 1e6 / count,
        "emulator_cpu_us_per_line": emulator_s * 1e6 / count,
        "worker_cores": worker_s / elapsed_s,
        "emulator_cores": emulator_s / elapsed_s,
        "other_cores": (all_s - worker_s - emulator_s) / elapsed_s,
    }


def measure_parts(fleet: Fleet, engine_port: int, cloud_pid: int) -> dict[str, float]:
    """CPU microseconds a line of each call that the worker makes for it: at the caller, and in the emulator."""
    region, queue_url = fleet.cloud.region, fleet.queue_urls["work"]
    sqs, s3, dynamodb = (aws.client(service, region) for service in ("sqs", "s3", "dynamodb"))
    messages = start_batch(fleet, PART_LINES)
    ledger = BatchLedger(dynamodb, "batches")
    taken: list[str] = []
    texts: dict[int, bytes] = {}
    bodies: dict[int, bytes] = {}

    def receive(message: LineMessage) -> None:
        answer = sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=BATCH, MessageSystemAttributeNames=["ApproximateReceiveCount"]
        )
        taken.extend(each["ReceiptHandle"] for each in answer["Messages"])

    def get_line(message: LineMessage) -> None:
        part = f"bytes={message.offset}-{message.offset + message.length - 1}"
        texts[message.line] = s3.get_object(Bucket="files", Key=message.file_key, Range=part)["Body"].read()

    def engine(message: LineMessage) -> None:
        reply = Call("127.0.0.1", engine_port).send("POST", message.endpoint, request_of(texts[message.line]), 60)
        bodies[message.line] = reply.body

    def put_result(message: LineMessage) -> None:
        answer = Answer(200, "req", bodies[message.line])
        body = result_line(message.batch_id, message.line, message.custom_id, answer)
        key = result_key(message.batch_id, message.line)
        s3.put_object(Bucket="results", Key=key, Body=body, IfNoneMatch="*")

    def count(message: LineMessage) -> None:
        ledger.count(message.batch_id, message.line, "completed", time.time())

    def delete(message: LineMessage) -> None:
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=taken[message.line])

    found: dict[str, float] = {}
    for part in (receive, get_line, engine, put_result, count, delete):
        share = CALLS_PER_LINE[part.__name__]
        some = messages[:: round(1 / share)]
        caller_us, emulator_us = _cost_us(part, some, cloud_pid)
        found[f"{part.__name__}_caller_cpu_us_per_line"] = caller_us * share
        found[f"{part.__name__}_emulator_cpu_us_per_line"] = emulator_us * share
    return found


def _cost_us(
    part: Callable[[LineMessage], None], messages: Sequence[LineMessage], cloud_pid: int
) -> tuple[float, float]:
    emulator_before_s, caller_before_s = cpu_s(cloud_pid), time.thread_time()
    for message in messages:
        part(message)
    caller_s, emulator_s = time.thread_time() - caller_before_s, cpu_s(cloud_pid) - emulator_before_s
    return caller_s * 1e6 / len(messages), emulator_s * 1e6 / len(messages)


def main() -> None:
    """Measure both, write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=LINES)
    lines = parser.parse_args().lines
    tools.build(FOLDER)
    os.sched_setaffinity(0, {LOAD_CORE})
    figures: dict[str, list[float]] = {}
    port = free_port()
    with LocalCloud() as cloud, tools.upstream(FOLDER, port):
        os.environ.update(cloud.environment())
        fleet = Fleet(cloud)
        cloud_pid = find("localcloud.emulator")
        for number in range(ROUNDS + 1):
            found = measure_rate(fleet, port, cloud_pid, lines) | measure_parts(fleet, port, cloud_pid)
            for name, value in found.items() if number else ():  # the first is a warm-up
                figures.setdefault(name, []).append(value)
    middle = {name: statistics.median(values) for name, values in figures.items()}
    aws_calls = sum(middle[f"{part}_caller_cpu_us_per_line"] for part in CALLS_PER_LINE if part != "engine")
    ratios = {
        "lines_per_s": middle["lines_per_s"],
        "worker_core_ceiling_lines_per_s": 1e6 / middle["worker_cpu_us_per_line"],
        "emulator_over_worker_cpu_per_line": middle["emulator_cpu_us_per_line"] / middle["worker_cpu_us_per_line"],
        "aws_calls_share_of_worker_cpu": aws_calls / middle["worker_cpu_us_per_line"],
    }
    record("worker", ratios, figures, packages=("boto3", "botocore", "orjson"), notes=_notes(ratios))


def _notes(ratios: dict[str, float]) -> list[str]:
    slower = "emulator" if ratios["emulator_over_worker_cpu_per_line"] > 1 else "worker"
    return [
        f"the {slower} takes more CPU a line, so it is the limit where each has a core",
        f"a line's AWS calls, made alone, add up to {ratios['aws_calls_share_of_worker_cpu']:.0%} of the worker's CPU",
    ]


if __name__ == "__main__":
    main()
