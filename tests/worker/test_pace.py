"""How many lines an engine gets, as properties of the rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.worker.engine_metrics import EngineLoad
from llm_fleet.worker.pace import ahead, first_limit, halved, next_limit

slot_counts = st.integers(1, 512)
counts = st.integers(0, 600)
loads = st.builds(EngineLoad, st.none() | counts, st.none() | counts, st.none())


@given(slots=slot_counts, limit=st.integers(1, 512), own=counts, load=loads)
def test_the_limit_stays_between_one_and_the_engines_slots(slots: int, limit: int, own: int, load: EngineLoad) -> None:
    assert 1 <= next_limit(min(limit, slots), slots, own, load) <= slots
    assert 1 <= first_limit(slots) <= slots
    assert 1 <= halved(min(limit, slots)) <= slots


@given(slots=slot_counts, own=st.integers(0, 512), others=st.integers(1, 512), waiting=st.integers(1, 512))
def test_batch_work_yields_within_ten_looks_while_others_wait(slots: int, own: int, others: int, waiting: int) -> None:
    """However the engine shares its queue out: requests of others are in it, and something waits."""
    load = EngineLoad(running=max(0, own + others - waiting), waiting=waiting)
    limit = slots
    for _ in range(10):
        after = next_limit(limit, slots, own, load)
        assert after < limit or after == 1 or (load.requests or 0) <= own
        limit = after
    assert limit == 1 or (load.requests or 0) <= own


@given(slots=slot_counts)
def test_a_free_engine_is_full_of_batch_work_after_sixteen_looks(slots: int) -> None:
    limit = first_limit(slots)
    for _ in range(16):
        limit = next_limit(limit, slots, limit, EngineLoad(running=limit, waiting=0))
    assert limit == slots


@given(slots=slot_counts, limit=st.integers(1, 512), others=st.integers(0, 512))
def test_the_limit_never_rises_into_slots_that_others_use(slots: int, limit: int, others: int) -> None:
    limit = min(limit, slots)
    load = EngineLoad(running=limit + others, waiting=0)
    if limit + others >= slots:
        assert next_limit(limit, slots, limit, load) <= limit


@given(slots=slot_counts, own=st.integers(1, 512), waiting=st.integers(1, 512))
def test_lines_that_only_wait_for_each_other_are_taken_back_to_what_runs(slots: int, own: int, waiting: int) -> None:
    own = min(own, slots)
    waiting = min(waiting, own)
    load = EngineLoad(running=own - waiting, waiting=waiting)
    assert next_limit(slots, slots, own, load) == max(1, own - waiting)


@given(slots=slot_counts)
def test_an_engine_that_says_nothing_is_given_its_slots(slots: int) -> None:
    limit = first_limit(slots)
    for _ in range(16):
        limit = next_limit(limit, slots, limit, EngineLoad())
    assert limit == slots


@given(limit=slot_counts)
def test_a_quarter_is_held_ahead(limit: int) -> None:
    assert limit <= 4 * ahead(limit) < limit + 4
