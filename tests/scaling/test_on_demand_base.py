"""The rule on the on-demand base: bounded, slow to give back, and at the plan in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.scaling.on_demand_base import HOLD_MINUTES, SETTLE_MINUTES, Bounds, Group, on_demand_base

BOUNDS = Bounds(planned_base=1, max_units=10, max_extra_units=5, units_per_instance=1, spot_percent=100)
FINE = Group(
    base=1,
    desired=6,
    in_service=6,
    pending=0,
    spot_refusals=0,
    on_demand_refusals=0,
    minutes_since_change=None,
)
DRY = replace(FINE, in_service=3, pending=1, spot_refusals=4)


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    max_units = draw(st.integers(1, 60))
    return Bounds(
        planned_base=draw(st.integers(0, max_units)),
        max_units=max_units,
        max_extra_units=draw(st.integers(0, max_units)),
        units_per_instance=draw(st.integers(1, 6)),
        spot_percent=draw(st.integers(1, 100)),
    )


groups = st.builds(
    Group,
    base=st.integers(0, 70),
    desired=st.integers(0, 60),
    in_service=st.integers(0, 70),
    pending=st.integers(0, 20),
    spot_refusals=st.integers(0, 3),
    on_demand_refusals=st.integers(0, 3),
    minutes_since_change=st.none() | st.floats(0, 10_000),
)


def test_missing_units_become_on_demand_when_spot_is_refused() -> None:
    decision = on_demand_base(DRY, BOUNDS)
    assert (decision.base, DRY.missing) == (3, 2)
    assert decision.why == "2 units missing, spot refused 4 times: 2 units more on-demand"


def test_a_pool_that_is_partly_on_demand_needs_more_base_for_the_same_units() -> None:
    """30 % of what is above the base is on-demand already, so 3 units of base free 2.1 units of spot."""
    assert on_demand_base(DRY, replace(BOUNDS, spot_percent=70)).base == 1 + 3


def test_units_that_boot_are_not_missing() -> None:
    booting = replace(DRY, pending=3)
    assert on_demand_base(booting, BOUNDS).base == booting.base


def test_units_that_are_missing_for_another_reason_are_left_to_the_alarm() -> None:
    assert on_demand_base(replace(DRY, spot_refusals=0), BOUNDS).base == 1


def test_nothing_is_added_where_on_demand_is_refused_as_well() -> None:
    assert "on-demand is refused too" in on_demand_base(replace(DRY, on_demand_refusals=1), BOUNDS).why


def test_a_second_raise_waits_for_what_the_first_ordered() -> None:
    just_raised = replace(DRY, base=3, minutes_since_change=SETTLE_MINUTES - 1)
    assert on_demand_base(just_raised, BOUNDS).base == 3
    assert on_demand_base(replace(just_raised, minutes_since_change=SETTLE_MINUTES), BOUNDS).base == 5


def test_spot_gets_back_one_instance_after_an_hour_of_quiet() -> None:
    raised = replace(FINE, base=5, minutes_since_change=HOLD_MINUTES)
    assert on_demand_base(raised, replace(BOUNDS, units_per_instance=2)).base == 3


@pytest.mark.parametrize(
    "unrest",
    [
        {"spot_refusals": 1},
        {"minutes_since_change": HOLD_MINUTES - 1},
        {"in_service": 4},
    ],
)
def test_nothing_is_given_back_before(unrest: dict[str, int]) -> None:
    raised = replace(FINE, base=5, minutes_since_change=HOLD_MINUTES)
    assert on_demand_base(replace(raised, **unrest), BOUNDS).base == 5


def test_a_base_that_on_demand_cannot_fill_does_not_keep_spot_out_for_ever() -> None:
    stuck = replace(FINE, base=5, in_service=3, on_demand_refusals=2, minutes_since_change=HOLD_MINUTES)
    assert on_demand_base(stuck, BOUNDS).base == 4


def test_a_base_below_the_plan_was_set_by_somebody_and_stays() -> None:
    assert on_demand_base(replace(DRY, base=0), BOUNDS).base == 0


@given(groups, bounds())
def test_a_raise_stays_below_every_limit(group: Group, limits: Bounds) -> None:
    base = on_demand_base(group, limits).base
    if base > group.base:
        assert base <= min(limits.max_units, group.desired, limits.planned_base + limits.max_extra_units)


@given(groups, bounds())
def test_no_change_is_without_its_reason(group: Group, limits: Bounds) -> None:
    base = on_demand_base(group, limits).base
    if base > group.base:
        assert group.missing > 0
        assert group.spot_refusals > 0
    if base < group.base:
        assert group.spot_refusals == 0
        assert group.missing == 0 or group.on_demand_refusals > 0


@given(groups, bounds())
def test_a_step_back_is_one_instance_and_never_goes_below_the_plan(group: Group, limits: Bounds) -> None:
    base = on_demand_base(group, limits).base
    if base < group.base:
        assert base >= limits.planned_base
        assert group.base - base <= limits.units_per_instance


@given(groups, bounds())
def test_a_change_is_not_taken_back_within_the_hold(group: Group, limits: Bounds) -> None:
    just_changed = replace(group, minutes_since_change=HOLD_MINUTES - 0.1)
    assert on_demand_base(just_changed, limits).base >= group.base


@given(groups, bounds())
def test_a_raise_does_not_ask_for_more_while_what_it_ordered_is_on_its_way(group: Group, limits: Bounds) -> None:
    just_changed = replace(group, minutes_since_change=SETTLE_MINUTES - 0.1)
    assert on_demand_base(just_changed, limits).base == group.base


@given(groups, bounds())
def test_in_the_end_the_base_is_the_plans(group: Group, limits: Bounds) -> None:
    """With spot back, every hour one step, until nothing changes any more."""
    base = group.base
    for _ in range(80):
        quiet = replace(
            group, base=base, in_service=group.desired, spot_refusals=0, minutes_since_change=float(HOLD_MINUTES)
        )
        base = on_demand_base(quiet, limits).base
    assert base == min(group.base, limits.planned_base)


@given(st.integers(1, 30), st.integers(1, 100), st.integers(0, 3))
def test_enough_raises_replace_all_spot_where_nothing_limits_them(units: int, spot_percent: int, base: int) -> None:
    """A dry market, simulated: only the on-demand part of the mix is ever launched."""
    limits = Bounds(min(base, units), units, units, 1, spot_percent)
    group = Group(min(base, units), units, 0, 0, 1, 0, None)
    for _ in range(3):
        above = units - group.base
        launched = group.base + -(-above * (100 - spot_percent) // 100)
        group = replace(group, in_service=launched)
        group = replace(group, base=on_demand_base(group, limits).base)
    assert group.missing == 0
