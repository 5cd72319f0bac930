"""Where requests wait for an engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_fleet.gateway import waiting_room
from llm_fleet.gateway.balancing import Balancer, Lease
from llm_fleet.gateway.waiting_room import BATCH_SHARE, LEAST_ROOM, ROOM_PER_PLACE, Ticket, WaitingRoom
from llm_fleet.registry import Engine, WorkerEntry
from llm_fleet.routing import Priority

POOL = "cost_efficient"


def worker(slots: int) -> WorkerEntry:
    return WorkerEntry(POOL, "i-1", "serving", (Engine("10.0.0.1", 8000, slots),), "g6.xlarge", 1, 0, 0, 0, 0.0)


class Guests:
    """Requests that enter a room by name, and what became of them."""

    def __init__(self, slots: int = 1) -> None:
        self.balancer = Balancer()
        self.room = WaitingRoom(self.balancer)
        self.balancer.learn(POOL, [worker(slots)], 1)
        self.held: list[Lease] = []
        self.served: list[str] = []
        self.gave_up: list[str] = []

    def fill(self) -> None:
        while (lease := self.balancer.take(POOL, 1, None)) is not None:
            self.held.append(lease)

    def enter(self, name: str, priority: Priority = "default", wait_s: float = 60) -> Ticket | None:
        def on_lease(lease: Lease) -> None:
            self.served.append(name)
            self.held.append(lease)

        return self.room.enter(POOL, 1, None, priority, wait_s, on_lease, lambda: self.gave_up.append(name))

    def end_one(self) -> None:
        self.held.pop(0).done("answered")


def with_guests(scenario: Callable[[Guests], Coroutine[Any, Any, None]], slots: int = 1) -> Guests:
    async def run() -> Guests:
        guests = Guests(slots)
        guests.fill()
        await scenario(guests)
        return guests

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True, scope="module")
def often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting_room, "SWEEP_S", 0.01)
        yield


def test_who_came_first_is_served_first() -> None:
    async def scenario(guests: Guests) -> None:
        for name in "abc":
            guests.enter(name)
        for _ in range(3):
            guests.end_one()

    assert with_guests(scenario).served == ["a", "b", "c"]


def test_a_freed_place_goes_to_one_who_waits_before_anyone_else_can_take_it() -> None:
    async def scenario(guests: Guests) -> None:
        guests.enter("a")
        guests.end_one()
        assert guests.served == ["a"]
        assert guests.balancer.take(POOL, 1, None) is None

    with_guests(scenario)


def test_realtime_goes_before_default_before_batch() -> None:
    async def scenario(guests: Guests) -> None:
        guests.enter("batch", "batch")
        guests.enter("default", "default")
        guests.enter("realtime", "realtime")
        for _ in range(3):
            guests.end_one()

    assert with_guests(scenario).served == ["realtime", "default", "batch"]


def test_a_batch_request_that_waited_long_goes_before_default_ones_that_come_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting_room, "AGES_AFTER_S", 0.05)

    async def scenario(guests: Guests) -> None:
        guests.enter("default 1")
        guests.enter("flex", "batch")
        await asyncio.sleep(0.2)
        guests.enter("default 2")
        for _ in range(3):
            guests.end_one()

    assert with_guests(scenario).served == ["default 1", "flex", "default 2"]


def test_who_waited_long_enough_is_told_to_give_up() -> None:
    async def scenario(guests: Guests) -> None:
        guests.enter("patient")
        guests.enter("hasty", wait_s=0.02)
        await until(lambda: bool(guests.gave_up))
        assert guests.room.waiting(POOL) == 1

    guests = with_guests(scenario)
    assert (guests.gave_up, guests.served) == (["hasty"], [])


def test_who_leaves_is_neither_served_nor_told() -> None:
    async def scenario(guests: Guests) -> None:
        ticket = guests.enter("a", wait_s=0.02)
        assert ticket is not None
        guests.enter("b")
        ticket.cancel()
        ticket.cancel()
        assert guests.room.waiting(POOL) == 1
        guests.end_one()
        await asyncio.sleep(0.05)

    guests = with_guests(scenario)
    assert (guests.served, guests.gave_up) == (["b"], [])


def test_cancelling_after_the_lease_changes_nothing() -> None:
    async def scenario(guests: Guests) -> None:
        ticket = guests.enter("a")
        assert ticket is not None
        guests.end_one()
        ticket.cancel()
        assert guests.balancer.outstanding(POOL) == 2

    with_guests(scenario)


def test_the_room_holds_some_rounds_of_answers_and_no_more() -> None:
    async def scenario(guests: Guests) -> None:
        room = ROOM_PER_PLACE * guests.balancer.places(POOL)
        assert room > LEAST_ROOM
        assert all(guests.enter(str(number)) for number in range(room))
        assert guests.enter("one too many") is None
        guests.end_one()
        assert guests.enter("fits again") is not None

    with_guests(scenario, slots=40)


def test_a_pool_without_workers_still_has_some_room() -> None:
    async def scenario(guests: Guests) -> None:
        guests.balancer.learn(POOL, [], 1)
        assert all(guests.enter(str(number)) for number in range(LEAST_ROOM))
        assert guests.enter("one too many") is None

    with_guests(scenario)


def test_batch_requests_leave_room_for_the_others() -> None:
    async def scenario(guests: Guests) -> None:
        entered = [guests.enter(str(number), "batch") for number in range(LEAST_ROOM)]
        assert sum(ticket is not None for ticket in entered) == LEAST_ROOM * BATCH_SHARE
        assert guests.enter("default") is not None

    with_guests(scenario)


def test_workers_that_come_serve_those_who_wait() -> None:
    async def scenario(guests: Guests) -> None:
        guests.balancer.learn(POOL, [], 1)
        guests.enter("a")
        guests.enter("b")
        guests.balancer.learn(POOL, [worker(slots=20)], 1)

    assert with_guests(scenario).served == ["a", "b"]


def test_who_enters_although_there_is_a_place_is_served_within_a_sweep() -> None:
    async def scenario(guests: Guests) -> None:
        guests.end_one()
        guests.enter("a")
        await until(lambda: guests.served == ["a"])

    with_guests(scenario)


def test_an_engine_whose_breaker_is_due_for_a_probe_gets_one_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_fleet.gateway.breaker.FIRST_PAUSE_S", 0.05)

    async def scenario(guests: Guests) -> None:
        while guests.held:
            guests.held.pop().done("left")
        leases = [lease for _ in range(3) if (lease := guests.balancer.take(POOL, 1, None))]
        for lease in leases:
            lease.done("refused")
        lease = guests.balancer.take(POOL, 1, None)
        assert lease is None
        guests.enter("probe")
        await until(lambda: guests.served == ["probe"])

    with_guests(scenario, slots=4)


def test_a_lease_that_ends_within_its_callback_lets_the_next_one_in() -> None:
    async def scenario(guests: Guests) -> None:
        served: list[str] = []
        for name in "abc":

            def on_lease(lease: Lease, name: str = name) -> None:
                served.append(name)
                lease.done("refused" if name == "a" else "left")

            guests.room.enter(POOL, 1, None, "default", 60, on_lease, lambda: None)
        guests.end_one()
        assert served == ["a", "b", "c"]
        assert guests.room.waiting(POOL) == 0

    with_guests(scenario)


def test_any_number_of_leases_may_end_within_their_callbacks() -> None:
    async def scenario(guests: Guests) -> None:
        served: list[Lease] = []

        def on_lease(lease: Lease) -> None:
            served.append(lease)
            lease.done("left")

        for _ in range(2000):
            assert guests.room.enter(POOL, 1, None, "default", 60, on_lease, lambda: None)
        guests.end_one()
        assert len(served) == 2000

    with_guests(scenario, slots=500)


def test_who_is_cancelled_by_a_neighbour_that_gives_up_is_not_told() -> None:
    async def scenario(guests: Guests) -> None:
        tickets: dict[str, Ticket | None] = {}

        def gives_up(name: str, other: str) -> None:
            guests.gave_up.append(name)
            ticket = tickets[other]
            assert ticket is not None
            ticket.cancel()

        def enter(name: str, other: str) -> Ticket | None:
            return guests.room.enter(POOL, 1, None, "default", 0, lambda _: None, lambda: gives_up(name, other))

        tickets |= {"a": enter("a", "b"), "b": enter("b", "a")}
        await until(lambda: guests.room.waiting(POOL) == 0)

    assert with_guests(scenario).gave_up == ["a"]


def test_a_callback_that_raises_gives_its_lease_back() -> None:
    async def scenario(guests: Guests) -> None:
        def broken(lease: Lease) -> None:
            raise RuntimeError("broken callback")

        guests.room.enter(POOL, 1, None, "default", 60, broken, lambda: None)
        lease = guests.held.pop()
        with pytest.raises(RuntimeError, match="broken callback"):
            lease.done("answered")
        assert guests.balancer.outstanding(POOL) == len(guests.held)

    with_guests(scenario)


def test_retry_after_grows_with_those_who_wait_at_the_pace_of_late() -> None:
    async def scenario(guests: Guests) -> None:
        assert guests.room.retry_after_s(POOL) == waiting_room.DEFAULT_RETRY_S
        for number in range(60):
            guests.enter(str(number))
        began = time.monotonic()
        for _ in range(5):
            await asyncio.sleep(0.05)
            guests.end_one()
        pace_s = (time.monotonic() - began) / 5
        assert 1.0 <= guests.room.retry_after_s(POOL) <= max(1.0, 56 * pace_s * 3)

    with_guests(scenario)


def test_an_empty_room_keeps_no_timer() -> None:
    async def scenario(guests: Guests) -> None:
        ticket = guests.enter("a")
        assert ticket is not None
        ticket.cancel()
        await asyncio.sleep(0.05)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        assert guests.room.waiting(POOL) == 0
        assert guests.enter("b", wait_s=0.02) is not None
        await until(lambda: guests.gave_up == ["b"])

    with_guests(scenario)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(["realtime", "default", "batch"])),
        st.tuples(st.just("cancel"), st.integers(min_value=0, max_value=20)),
        st.tuples(st.just("end"), st.none()),
        st.tuples(st.just("learn"), st.integers(min_value=0, max_value=3)),
        st.tuples(st.just("sweep"), st.none()),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(ACTIONS)
def test_everyone_is_served_or_gives_up_or_cancels_exactly_once_and_no_lease_is_lost(
    actions: list[tuple[str, Any]],
) -> None:
    tickets: list[Ticket] = []
    cancelled: list[str] = []

    async def scenario(guests: Guests) -> None:
        for number, (action, argument) in enumerate(actions):
            if action == "enter":
                ticket = guests.enter(str(number), argument, wait_s=0.0 if number % 7 == 0 else 60)
                assert ticket is not None
                tickets.append(ticket)
            elif action == "cancel" and argument < len(tickets):
                if tickets[argument].line is not None:
                    cancelled.append(str(argument))
                tickets[argument].cancel()
            elif action == "end" and guests.held:
                guests.end_one()
            elif action == "learn":
                guests.balancer.learn(POOL, [worker(argument)] if argument else [], 1)
            elif action == "sweep":
                await asyncio.sleep(0.011)
        guests.balancer.learn(POOL, [worker(slots=1000)], 1)
        await until(lambda: guests.room.waiting(POOL) == 0)
        assert len(guests.served) + len(guests.gave_up) + len(cancelled) == len(tickets)
        assert not set(guests.served) & set(guests.gave_up)
        assert guests.balancer.outstanding(POOL) == len(guests.held)

    with_guests(scenario)


def test_who_avoids_the_only_engine_with_a_place_lets_others_pass_and_is_served_elsewhere() -> None:
    async def scenario(guests: Guests) -> None:
        failed = worker(1).engines[0]
        served: list[str] = []

        def enter(name: str, avoid: tuple[Engine, ...]) -> None:
            def on_lease(lease: Lease) -> None:
                served.append(f"{name} at {lease.engine.host}")

            guests.room.enter(POOL, 1, None, "default", 60, on_lease, lambda: None, avoid)

        enter("a", (failed,))
        enter("b", ())
        guests.end_one()
        assert served == ["b at 10.0.0.1"]
        other = WorkerEntry(POOL, "i-2", "serving", (Engine("10.0.0.2", 8000, 1),), "g6.xlarge", 1, 0, 0, 0, 0.0)
        guests.balancer.learn(POOL, [worker(1), other], 1)
        assert served == ["b at 10.0.0.1", "a at 10.0.0.2"]

    with_guests(scenario)
