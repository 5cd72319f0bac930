"""No request is lost, whatever dies: a batch of 2,000 lines through a fleet to which everything happens at once."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from llm_fleet.registry import EXPIRES_AFTER_S, Registry
from localcloud.cloud import LocalCloud
from tests.proof.answers import MODEL, answer
from tests.proof.chaos import POOL, TIMES, Chaos, schedule
from tests.proof.door import under_way
from tests.proof.engine import REFUSED_WORD
from tests.proof.faults import AWS_FAULTS, THROTTLE, FaultProxy
from tests.proof.findings import Findings
from tests.proof.fleet import Fleet
from tests.proof.processes import wait_until
from tests.proof.visitor import Visitor

LINES = 2000
REFUSED_EVERY = 250
"""Of so many lines the engine refuses one."""
ENGINE_DELAY_S = 0.5
"""Per line; three engines of eight slots then need 42 s, time for faults that last a while."""
END_S = 240
"""A guard."""
TOKENS = 3


@pytest.fixture
def proxy(cloud: LocalCloud, seed: int, folder: Path) -> Iterator[FaultProxy]:
    running = FaultProxy(cloud.endpoint_url, seed, cloud.environment(), folder)
    yield running
    running.stop()


@pytest.fixture
def fleet(cloud: LocalCloud, proxy: FaultProxy, folder: Path) -> Iterator[Fleet]:
    built = Fleet(
        cloud, folder, pools=[POOL], endpoint_url=proxy.endpoint_url, engine_delay_s=ENGINE_DELAY_S, probe_after_s=2
    )
    yield built
    built.stop()


class Prompts:
    """The lines of the batch: custom_id -> prompt, in the file's order, which is not the order of the names."""

    def __init__(self, rng: random.Random) -> None:
        names = [f"line-{number}" for number in range(LINES)]
        rng.shuffle(names)
        self.by_id = {
            name: f"{name} asks" + (f" {REFUSED_WORD}" if at % REFUSED_EVERY == 7 else "")
            for at, name in enumerate(names)
        }

    @property
    def refused(self) -> set[str]:
        return {name for name, prompt in self.by_id.items() if REFUSED_WORD in prompt}

    def file(self) -> bytes:
        lines = (
            {
                "custom_id": name,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": MODEL, "max_tokens": TOKENS, "messages": [{"role": "user", "content": prompt}]},
            }
            for name, prompt in self.by_id.items()
        )
        return "".join(json.dumps(line) + "\n" for line in lines).encode()


class Watch:
    """Polls a batch, and holds its counts to what counts may do."""

    def __init__(self, client: openai.OpenAI, batch_id: str) -> None:
        self._client = client
        self._batch_id = batch_id
        self.polls = self.unanswered = 0
        self.before = (0, 0)
        self.batch: Any = None

    def poll(self) -> None:
        """Look once. A gateway that is down at the moment is no finding."""
        try:
            batch = self._client.batches.retrieve(self._batch_id)
        except (openai.APIConnectionError, openai.InternalServerError):
            self.unanswered += 1
            return
        self.polls += 1
        self.batch = batch
        counts = batch.request_counts
        assert counts is not None
        assert counts.completed + counts.failed <= counts.total, counts
        assert counts.total in (0, LINES), counts
        assert counts.completed >= self.before[0], (self.before, counts)
        assert counts.failed >= self.before[1], (self.before, counts)
        self.before = (counts.completed, counts.failed)
        assert batch.status in ("validating", "in_progress", "finalizing", "completed"), batch

    def completed(self) -> bool:
        """Whether the batch has ended."""
        self.poll()
        return self.batch is not None and self.batch.status == "completed"


def test_every_line_ends_with_one_result_whatever_dies(
    fleet: Fleet, proxy: FaultProxy, seed: int, rng: random.Random, findings: Findings
) -> None:
    gateway = fleet.start_gateway()
    instances = [fleet.start_instance(POOL) for _ in range(3)]
    for instance in instances:
        instance.worker.wait_for("serving")
    prompts = Prompts(rng)
    client = openai.OpenAI(base_url=gateway.base_url, api_key=fleet.key, max_retries=0, timeout=10)
    uploaded = client.files.create(file=("lines.jsonl", prompts.file()), purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    watch = Watch(client, batch.id)
    chaos = Chaos(fleet, proxy, gateway, instances)
    started = time.monotonic()

    def ended_lines() -> int:
        assert time.monotonic() < started + END_S, f"{watch.batch}\n{fleet.stories()}"
        watch.poll()
        return fleet.ended_lines(batch.id)

    visitor = Visitor(gateway.base_url, fleet.key)
    visitor.start()
    chaos.run(schedule(seed, LINES), ended_lines, LINES)
    proxy.clear()
    wait_until(watch.completed, 60, "the batch is completed", fleet.stories)
    visitor.stop()
    findings.say(
        seed=seed,
        seconds=round(time.monotonic() - started),
        faults=sum(chaos.done.values()),
        **dict(sorted(chaos.done.items())),
        aws_requests_hit=sum(proxy.fired().values()),
        **{name.replace(" ", "_"): count for name, count in sorted(proxy.fired().items())},
        polls=watch.polls,
        polls_unanswered=watch.unanswered,
    )
    findings.say(**{f"streams_{word}": count for word, count in sorted(visitor.seen.items())})
    findings.say(**dict(sorted(troubles(fleet).items())), **chaos.restarted)

    batch = watch.batch
    assert (batch.request_counts.total, batch.request_counts.completed + batch.request_counts.failed) == (LINES, LINES)
    outputs = read(client, batch.output_file_id)
    errors = read(client, batch.error_file_id)
    findings.say(outputs=len(outputs), errors=len(errors), **reasons(errors))
    check_results(prompts, outputs, errors)
    assert (len(outputs), len(errors)) == (batch.request_counts.completed, batch.request_counts.failed)
    assert set(TIMES) < set(chaos.done)
    assert set(proxy.fired()) == {f"{service} {fault}" for service in THROTTLE for fault in AWS_FAULTS}
    assert not chaos.too_late
    assert sorted(chaos.exit_codes) == [-9, 0]
    assert not chaos.drained_by_rebalance
    assert not visitor.wrong
    assert visitor.seen["answered"] > visitor.seen["refused"] + visitor.seen["broken"]
    check_nothing_is_left(fleet, chaos)


def troubles(fleet: Fleet) -> Counter[str]:
    """What workers and clerk say that they had to deal with: the faults were felt."""
    told = ("line_given_back", "lease_lost", "lease_left", "result_not_recorded_yet", "nothing_received", "step_failed")
    events = (line.get("event", "") for process in fleet.processes for line in process.events())
    return Counter(event for event in events if event in told)


def read(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()] if file_id else []


def reasons(errors: list[dict[str, Any]]) -> dict[str, int]:
    """How often each error code occurred."""
    names = ((line["error"] or {}).get("code") or f"status_{line['response']['status_code']}" for line in errors)
    return dict(Counter(names))


def check_results(prompts: Prompts, outputs: list[dict[str, Any]], errors: list[dict[str, Any]]) -> None:
    """Each line once, in order, with its own answer or a named error."""
    order = {name: at for at, name in enumerate(prompts.by_id)}
    for lines in (outputs, errors):
        places = [order[line["custom_id"]] for line in lines]
        assert places == sorted(places)
    assert Counter(line["custom_id"] for line in (*outputs, *errors)) == dict.fromkeys(prompts.by_id, 1)
    for line in outputs:
        assert line["error"] is None, line
        response = line["response"]
        assert response["status_code"] == 200, line
        said = response["body"]["choices"][0]["message"]["content"]
        assert said == answer(prompts.by_id[line["custom_id"]], TOKENS), line
    for line in errors:
        assert (line["error"] or {}).get("code") or line["response"]["status_code"] >= 400, line
    failed = {line["custom_id"] for line in errors}
    assert prompts.refused <= failed
    assert failed == prompts.refused, [line for line in errors if line["custom_id"] not in prompts.refused][:5]


def check_nothing_is_left(fleet: Fleet, chaos: Chaos) -> None:
    """Queues empty, engines idle, registry clean, gateway's counters at zero."""
    # A message that came twice may outlive its batch by a visibility timeout, until a worker sees that it is settled.
    nothing = {"visible": 0, "in_flight": 0, "dead": 0}
    wait_until(lambda: fleet.left_in(POOL) == nothing, 60, "the queues are empty", lambda: str(fleet.left_in(POOL)))
    for instance in chaos.alive():
        wait_until(lambda of=instance: of.engine.counts()["in_flight"] == 0, 30, f"{instance.name}'s engine is idle")
    registry = Registry(fleet.dynamodb, fleet.registry_table)
    names = {instance.name for instance in chaos.alive()}

    def registered() -> bool:
        entries = registry.workers(POOL, time.time())
        return {entry.worker_id for entry in entries} == names and not sum(entry.leased for entry in entries)

    wait_until(registered, EXPIRES_AFTER_S + 30, f"the registry holds {names}, none with a lease", fleet.stories)
    assert len(registry.gateways(time.time())) == 1
    assert not under_way(chaos.gateway.port)


@pytest.mark.parametrize("seed", range(3))
def test_a_schedule_is_the_same_for_the_same_seed(seed: int) -> None:
    assert schedule(seed, LINES) == schedule(seed, LINES)
    assert schedule(seed, LINES) != schedule(seed + 1, LINES)
    assert sorted(schedule(seed, LINES)) == schedule(seed, LINES)
