"""Which engine takes a request."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pytest

from llm_fleet.gateway import breaker
from llm_fleet.gateway.balancing import SPARE_PLACES, Balancer, Lease
from llm_fleet.registry import Engine, State, WorkerEntry

POOL = "cost_efficient"


def worker(number: int, state: State = "serving", slots: int = 4, engines: int = 1) -> WorkerEntry:
    return WorkerEntry(
        pool=POOL,
        worker_id=f"i-{number}",
        state=state,
        engines=tuple(Engine(f"10.0.0.{number}", 8000 + each, slots) for each in range(engines)),
        instance_type="g6.xlarge",
        units=1,
        running=0,
        waiting=0,
        leased=0,
        expires_at=time.time() + 20,
    )


def balancer(*workers: WorkerEntry, tasks: int = 1) -> Balancer:
    made = Balancer()
    made.learn(POOL, workers, tasks)
    return made


def take(from_: Balancer, tokens: int = 100, affinity: int | None = None, avoid: Sequence[Engine] = ()) -> Lease:
    lease = from_.take(POOL, tokens, affinity, avoid)
    assert lease is not None
    return lease


def fill(from_: Balancer) -> list[Lease]:
    leases: list[Lease] = []
    while (lease := from_.take(POOL, 1, None)) is not None:
        leases.append(lease)
    return leases


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers that let a probe through at once."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE_S", 0.0)


def break_engine(of: Balancer, how: Literal["failed", "refused"] = "refused") -> None:
    for lease in [take(of) for _ in range(breaker.FAILURES_IN_A_ROW)]:
        lease.done(how)


class TestChoice:
    def test_the_engine_with_the_fewest_tokens_outstanding_is_taken(self) -> None:
        pool = balancer(worker(1), worker(2))
        first = take(pool, tokens=5000)
        assert [take(pool, tokens=10).engine for _ in range(3)] == [first_other(first)] * 3

    def test_equal_engines_are_taken_in_turn(self) -> None:
        pool = balancer(worker(1), worker(2), worker(3))
        turns: Counter[str] = Counter()
        for _ in range(9):
            lease = take(pool)
            turns[lease.worker_id] += 1
            lease.done("answered")
        assert set(turns.values()) == {3}

    def test_each_engine_of_an_instance_counts_for_itself(self) -> None:
        pool = balancer(worker(1, engines=2))
        assert {take(pool).engine.port, take(pool).engine.port} == {8000, 8001}

    def test_a_session_stays_with_its_engine(self) -> None:
        pool = balancer(*(worker(number) for number in range(5)))
        engines: set[Engine] = set()
        for _ in range(20):
            lease = take(pool, affinity=4711)
            engines.add(lease.engine)
            lease.done("answered")
        assert len(engines) == 1

    def test_a_session_goes_elsewhere_when_its_engine_is_loaded_above_the_bound_and_comes_back(self) -> None:
        pool = balancer(*(worker(number, slots=64) for number in range(4)))
        home = take(pool, tokens=10_000, affinity=4711)
        away = take(pool, tokens=100, affinity=4711)
        assert away.engine != home.engine
        home.done("answered")
        assert take(pool, tokens=100, affinity=4711).engine == home.engine

    def test_one_session_alone_cannot_pile_up_on_one_engine(self) -> None:
        pool = balancer(*(worker(number, slots=100) for number in range(4)))
        taken = Counter(take(pool, tokens=100, affinity=4711).worker_id for _ in range(100))
        assert max(taken.values()) <= 1.25 * 25 + 2

    def test_an_engine_to_avoid_is_avoided_and_none_is_left_when_all_are(self) -> None:
        pool = balancer(worker(1), worker(2))
        one, two = worker(1).engines[0], worker(2).engines[0]
        assert take(pool, avoid=[one]).engine == two
        assert pool.take(POOL, 100, None, [one, two]) is None

    @pytest.mark.parametrize("state", ["draining", "failing"])
    def test_a_draining_or_failing_worker_gets_nothing_new(self, state: State) -> None:
        pool = balancer(worker(1, state), worker(2, slots=16))
        assert {take(pool, affinity=number).worker_id for number in range(10)} == {"i-2"}


def first_other(lease: Lease) -> Engine:
    return next(worker(number).engines[0] for number in (1, 2) if worker(number).engines[0] != lease.engine)


class TestPlaces:
    @pytest.mark.parametrize(("slots", "tasks", "places"), [(8, 1, 8), (8, 2, 4), (8, 3, 3), (1, 4, 1)])
    def test_gateway_tasks_share_an_engines_slots(self, slots: int, tasks: int, places: int) -> None:
        pool = balancer(worker(1, slots=slots), tasks=tasks)
        assert len(fill(pool)) == pool.places(POOL) == places + SPARE_PLACES

    def test_a_pool_is_ready_then_saturated_then_ready_again(self) -> None:
        pool = balancer(worker(1))
        assert pool.state(POOL) == "ready"
        leases = fill(pool)
        assert pool.state(POOL) == "saturated"
        leases[0].done("answered")
        assert pool.state(POOL) == "ready"

    def test_a_pool_without_a_serving_worker_is_empty(self) -> None:
        assert Balancer().state(POOL) == "empty"
        assert balancer().state(POOL) == "empty"
        assert balancer(worker(1, "draining"), worker(2, "failing")).state(POOL) == "empty"

    def test_an_unknown_pool_gives_no_lease(self) -> None:
        assert Balancer().take("nowhere", 1, None) is None

    def test_whoever_waits_is_called_when_a_place_frees_and_when_workers_come(self) -> None:
        pool = Balancer()
        called: list[str] = []
        pool.on_room(called.append)
        pool.learn(POOL, [worker(1)], 1)
        lease = take(pool)
        assert called == [POOL]
        lease.done("left")
        assert called == [POOL, POOL]


class TestBreakers:
    @pytest.mark.parametrize("how", ["failed", "refused"])
    def test_an_engine_that_fails_three_times_in_a_row_gets_nothing(self, how: Literal["failed", "refused"]) -> None:
        pool = balancer(worker(1))
        break_engine(pool, how)
        assert pool.take(POOL, 1, None) is None
        assert [reading.breaker for reading in pool.readings(POOL)] == ["open"]

    def test_a_pool_whose_breakers_are_all_open_is_saturated_not_empty(self) -> None:
        pool = balancer(worker(1))
        break_engine(pool)
        assert pool.state(POOL) == "saturated"

    def test_clients_that_leave_open_no_breaker(self) -> None:
        pool = balancer(worker(1))
        for _ in range(20):
            take(pool).done("left")
        assert pool.state(POOL) == "ready"

    @pytest.mark.usefixtures("short_pauses")
    def test_one_probe_goes_at_a_time_and_its_answer_closes_the_breaker(self) -> None:
        pool = balancer(worker(1))
        break_engine(pool)
        probe = take(pool)
        assert pool.take(POOL, 1, None) is None
        probe.done("answered")
        assert [reading.breaker for reading in pool.readings(POOL)] == ["closed"]
        assert len(fill(pool)) == 4 + SPARE_PLACES

    @pytest.mark.usefixtures("short_pauses")
    def test_the_first_byte_of_a_probes_answer_closes_the_breaker(self) -> None:
        pool = balancer(worker(1))
        break_engine(pool)
        called: list[str] = []
        pool.on_room(called.append)
        probe = take(pool)
        probe.alive()
        assert pool.state(POOL) == "ready"
        assert called == [POOL]
        probe.done("answered")
        assert pool.outstanding(POOL) == 0

    @pytest.mark.usefixtures("short_pauses")
    def test_a_probe_that_breaks_off_after_its_first_byte_is_a_failure_like_any_other(self) -> None:
        pool = balancer(worker(1))
        break_engine(pool)
        probe = take(pool)
        probe.alive()
        leases = [probe, *(take(pool) for _ in range(breaker.FAILURES_IN_A_ROW - 1))]
        for lease in leases:
            assert [reading.breaker for reading in pool.readings(POOL)] == ["closed"]
            lease.done("failed")
        assert [reading.breaker for reading in pool.readings(POOL)] != ["closed"]

    @pytest.mark.usefixtures("short_pauses")
    def test_a_probe_whose_client_leaves_is_followed_by_another(self) -> None:
        pool = balancer(worker(1))
        break_engine(pool)
        take(pool).done("left")
        assert pool.state(POOL) == "ready"
        take(pool).done("answered")
        assert [reading.breaker for reading in pool.readings(POOL)] == ["closed"]

    @pytest.mark.usefixtures("short_pauses")
    def test_a_probe_that_fails_leaves_the_breaker_open(self) -> None:
        pool = balancer(worker(1))
        break_engine(pool)
        take(pool).done("refused")
        assert [reading.breaker for reading in pool.readings(POOL)] == ["half-open"]


class TestChurn:
    def test_a_lease_outlives_its_worker_and_ends_cleanly(self) -> None:
        pool = balancer(worker(1))
        lease = take(pool)
        pool.learn(POOL, [], 1)
        assert pool.state(POOL) == "empty"
        assert pool.outstanding(POOL) == 1
        lease.done("failed")
        assert pool.outstanding(POOL) == 0

    def test_a_worker_that_comes_back_still_has_what_it_runs(self) -> None:
        pool = balancer(worker(1))
        leases = fill(pool)
        pool.learn(POOL, [], 1)
        pool.learn(POOL, [worker(1)], 1)
        assert pool.state(POOL) == "saturated"
        for lease in leases:
            lease.done("answered")
        assert len(fill(pool)) == 4 + SPARE_PLACES

    def test_another_worker_at_the_same_address_begins_anew(self) -> None:
        pool = balancer(worker(1))
        break_engine(pool)
        successor = WorkerEntry(**{**vars(worker(1)), "worker_id": "i-new"})
        pool.learn(POOL, [successor], 1)
        assert take(pool).worker_id == "i-new"

    def test_a_changed_number_of_slots_counts_from_the_next_look(self) -> None:
        pool = balancer(worker(1, slots=1))
        pool.learn(POOL, [worker(1, slots=9)], 1)
        assert len(fill(pool)) == 9 + SPARE_PLACES

    def test_workers_that_come_and_go_leave_nothing_behind(self) -> None:
        pool = balancer()
        for number in range(2000):
            pool.learn(POOL, [worker(number)], 1)
            take(pool, affinity=number).done("answered")
        assert [reading.worker_id for reading in pool.readings(POOL)] == ["i-1999"]
        pool.learn(POOL, [], 1)
        assert list(pool.readings(POOL)) == []

    def test_a_lease_that_is_done_holds_no_place_however_often_it_is_done(self) -> None:
        pool = balancer(worker(1))
        lease = take(pool)
        for _ in range(3):
            lease.done("answered")
        assert pool.outstanding(POOL) == 0
        assert [(reading.running, reading.outstanding_tokens) for reading in pool.readings(POOL)] == [(0, 0)]


def test_a_session_needs_no_memory() -> None:
    pool = balancer(worker(1), worker(2))
    take(pool, affinity=1).done("answered")
    before = sys.getallocatedblocks()
    for affinity in range(5000):
        take(pool, affinity=affinity).done("answered")
    assert sys.getallocatedblocks() - before < 500
