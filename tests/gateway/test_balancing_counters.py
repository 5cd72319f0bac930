"""The balancer's counters, whatever happens in whatever order."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from llm_fleet.gateway import breaker
from llm_fleet.gateway.balancing import Balancer, Lease
from llm_fleet.registry import Engine, State, WorkerEntry

POOL = "cost_efficient"


def worker(number: int, state: State, slots: int) -> WorkerEntry:
    engines = (Engine(f"10.0.0.{number}", 8000, slots),)
    return WorkerEntry(POOL, f"i-{number}", state, engines, "g6.xlarge", 1, 0, 0, 0, 0.0)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE_S", 0.0)


class Counters(RuleBasedStateMachine):
    """Random takes, ends, double ends and looks at the registry: the counters always say what is leased."""

    leases = Bundle("leases")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.balancer = Balancer()
        self.live: dict[Lease, int] = {}
        self.tasks = 1
        self.known: dict[str, WorkerEntry] = {}

    @rule(
        states=st.dictionaries(
            st.integers(min_value=1, max_value=4),
            st.sampled_from(["serving", "serving", "draining", "failing"]),
        ),
        slots=st.integers(min_value=1, max_value=3),
        tasks=st.integers(min_value=1, max_value=3),
    )
    def learn(self, states: dict[int, State], slots: int, tasks: int) -> None:
        workers = [worker(number, state, slots) for number, state in states.items()]
        self.known = {each.worker_id: each for each in workers}
        self.tasks = tasks
        self.balancer.learn(POOL, workers, tasks)

    @rule(
        target=leases,
        tokens=st.integers(min_value=1, max_value=5000),
        affinity=st.none() | st.integers(min_value=0, max_value=5),
        avoid=st.lists(st.integers(min_value=1, max_value=4), max_size=2),
    )
    def take(self, tokens: int, affinity: int | None, avoid: list[int]) -> Lease | None:
        avoided = [each.engines[0] for number in avoid if (each := self.known.get(f"i-{number}"))]
        state = self.balancer.state(POOL)
        lease = self.balancer.take(POOL, tokens, affinity, avoided)
        if lease is None:
            assert avoided or state != "ready"
            return None
        assert state == "ready"
        assert self.known[lease.worker_id].state == "serving"
        assert lease.engine not in avoided
        self.live[lease] = tokens
        return lease

    @rule(target=ended, lease=consumes(leases), how=st.sampled_from(["answered", "failed", "refused", "left"]))
    def done(self, lease: Lease | None, how: Literal["answered", "failed", "refused", "left"]) -> Lease | None:
        if lease is not None:
            lease.done(how)
            del self.live[lease]
        return lease

    @rule(lease=ended, how=st.sampled_from(["answered", "failed", "refused", "left"]))
    def done_again(self, lease: Lease | None, how: Literal["answered", "failed", "refused", "left"]) -> None:
        if lease is not None:
            lease.done(how)
            lease.alive()

    @rule(lease=leases)
    def alive(self, lease: Lease | None) -> None:
        if lease is not None:
            lease.alive()

    @invariant()
    def counters_say_what_is_leased(self) -> None:
        assert self.balancer.outstanding(POOL) == len(self.live)
        readings = {reading.worker_id: reading for reading in self.balancer.readings(POOL)}
        running = Counter(lease.worker_id for lease in self.live)
        tokens: Counter[str] = Counter()
        for lease, each in self.live.items():
            tokens[lease.worker_id] += each
        for worker_id, reading in readings.items():
            assert reading.running == running[worker_id] >= 0
            assert reading.outstanding_tokens == tokens[worker_id] >= 0
        assert set(running) <= set(readings)

    def teardown(self) -> None:
        for lease in list(self.live):
            lease.done("failed")
        self.balancer.learn(POOL, [], 1)
        assert self.balancer.outstanding(POOL) == 0
        assert list(self.balancer.readings(POOL)) == []


Counters.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCounters = Counters.TestCase


@pytest.mark.usefixtures("no_pauses")
class TestCountersWithProbes(Counters.TestCase):
    """The same while breakers let probes through at once."""
