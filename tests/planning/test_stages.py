"""The stages of planning one by one: rates, purchase mixes, choosing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.catalog.types import Price
from llm_fleet.patterns.schema import UsagePattern, Workload
from llm_fleet.planning.choosing import smallest_emptying_set
from llm_fleet.planning.load import request_rates, window_share
from llm_fleet.planning.plan import Reason, Rejected
from llm_fleet.planning.purchase import Mix, usd_per_hour

OFFICE = UsagePattern(kind="office-hours")
NIGHT = UsagePattern(kind="overnight", start_hour=22, end_hour=6, weekdays_only=False)


def workload(requests_per_day: int, peak_to_mean: float = 3) -> Workload:
    """A workload of 512 tokens in and 256 out."""
    return Workload(input_tokens=512, output_tokens=256, requests_per_day=requests_per_day, peak_to_mean=peak_to_mean)


def price(on_demand: float, spot: float | None) -> Price:
    """A price row of two figures."""
    return Price("x", "us-east-1", on_demand, spot, None, None, None, "", None, None, None, "test")


def missing(name: str, *criteria: str) -> Rejected:
    """A type that fails the criteria."""
    reasons = tuple(Reason(criterion=c, needed="x", available="y", margin=None, unit="", text=c) for c in criteria)
    return Rejected(instance_type=name, rank=None, usd_per_month=None, reasons=reasons)


@given(
    requests=st.integers(1, 10_000_000),
    usage=st.sampled_from([OFFICE, NIGHT, UsagePattern(kind="steady")]),
    ratio=st.floats(1, 50),
)
def test_the_months_profile_always_averages_to_the_daily_mean(requests: int, usage: UsagePattern, ratio: float) -> None:
    rates = request_rates(workload(requests, ratio), usage)
    assert sum(share for share, _ in rates.profile) == pytest.approx(1)
    assert sum(share * rate for share, rate in rates.profile) == pytest.approx(rates.expected)
    assert rates.expected == pytest.approx(requests / 86_400)
    assert rates.low <= rates.expected <= rates.peak


def test_office_hours_bring_eighty_five_percent_less_outside() -> None:
    rates = request_rates(workload(86_400), OFFICE)
    (_, inside), (_, outside) = rates.profile
    assert outside == pytest.approx(0.15 * inside)
    assert rates.low == outside


def test_hours_over_midnight_are_counted_over_it() -> None:
    assert window_share(NIGHT) == pytest.approx(8 / 24)


@pytest.mark.parametrize(("count", "on_demand"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (10, 4)])
def test_one_on_demand_and_seventy_percent_spot_above_it_round_as_ec2_rounds(count: int, on_demand: int) -> None:
    """At ten instances the real share of spot is 60 %, not 70."""
    assert Mix("mixed", 1, None, 70, "test").on_demand(count, 1) == on_demand


def test_a_base_by_share_grows_with_the_steady_capacity() -> None:
    mix = Mix("mixed", 0, 0.7, 33, "test")
    assert [mix.base(n) for n in (1, 2, 4, 10)] == [1, 1, 3, 7]


def test_unknown_spot_prices_count_at_the_on_demand_price() -> None:
    mix = Mix("spot", 0, None, 100, "test")
    assert usd_per_hour(mix, 3, 0, price(2.0, None)) == 6.0
    assert usd_per_hour(mix, 3, 0, price(2.0, 0.5)) == 1.5


@given(count=st.integers(0, 200), base=st.integers(0, 50), spot=st.integers(0, 100))
def test_a_mix_never_buys_more_or_fewer_than_asked(count: int, base: int, spot: int) -> None:
    on_demand = Mix("mixed", base, None, spot, "test").on_demand(count, base)
    assert min(count, base) <= on_demand <= count


def test_the_headline_is_the_smallest_set_of_criteria_that_empties_the_list() -> None:
    types = [missing("a", "memory", "price"), missing("b", "memory"), missing("c", "region", "memory")]
    assert smallest_emptying_set(types) == ("memory",)
    assert set(smallest_emptying_set([*types, missing("d", "region")])) == {"memory", "region"}


def test_nothing_to_exclude_needs_no_criterion() -> None:
    assert smallest_emptying_set([]) == ()
