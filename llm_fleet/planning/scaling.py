"""Sizes, steps and schedules of a pool's group, in capacity units; and its purchase numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llm_fleet.patterns.schema import ScalingRules, UsagePattern
from llm_fleet.planning.choosing import Ranked
from llm_fleet.planning.cost import instances_for, start_of
from llm_fleet.planning.plan import Purchase, Scaling, Schedule, StepIn, StepOut
from llm_fleet.planning.request import PoolRequest

STEP_LADDER = (1, 2, 4)
"""Steps out beyond the article's: past once, twice and four times its mark, add once, twice and four times its
number. One step
repeats once a warm-up, not once a minute, so a single +2 climbs too slowly behind a boot of minutes."""
TTFT_MARK_FACTOR = 1.5
"""Scale-in allows a time to first token of 1.5 x the one without load, where the article's 100 ms lies below what
the model can do.
"""
LEAST_LEAD_MINUTES = 15
LEAD_STEP_MINUTES = 5
MOST_LEAD_MINUTES = 60
"""A schedule raises the minimum before the hour by a boot at its slow end, rounded up, within these limits."""


def scaling_of(request: PoolRequest, choices: Sequence[Ranked], weights: Sequence[int]) -> Scaling:
    """The group's numbers. One instance of the best choice is its weight in units; all instance numbers are times
    that.
    """
    rules, unit = request.pool.scaling, weights[0]
    held = min(
        entry.serving.concurrency * entry.serving.replicas / weight
        for entry, weight in zip(choices, weights, strict=True)
    )
    ttft_ms = max(entry.serving.ttft_unloaded_ms for entry in choices)
    return Scaling(
        units_per_instance=unit,
        min_instances=rules.min_instances,
        max_instances=rules.max_instances,
        min_units=rules.min_instances * unit,
        max_units=rules.max_instances * unit,
        target_backlog_per_unit=rules.target_backlog,
        steps_out=tuple(
            StepOut(above_backlog_per_unit=rules.step_out_above * k, add_units=rules.step_out_instances * unit * k)
            for k in STEP_LADDER
        ),
        step_in=StepIn(
            below_backlog_per_unit=rules.step_in_below,
            remove_units=rules.step_in_instances * unit,
            minutes=rules.step_in_minutes,
            ttft_mark_ms=round(max(rules.step_in_ttft_ms, TTFT_MARK_FACTOR * ttft_ms), 1),
            in_flight_per_unit=max(1, math.floor(held)),
        ),
        launch_hook_seconds=rules.launch_hook_seconds,
        drain_seconds=rules.drain_seconds,
        schedules=_schedules(request, choices[0], unit),
    )


def _schedules(request: PoolRequest, best: Ranked, unit: int) -> tuple[Schedule, ...]:
    """Office hours keep enough for the mean rate inside them; overnight keeps one instance within the hours;
    steady has none.
    """
    usage, rules = request.pool.usage, request.pool.scaling
    if usage.kind == "steady":
        return ()
    inside = instances_for(request, best.serving, request.rates.profile[0][1]) if usage.kind == "office-hours" else 1
    raised = min(max(inside, rules.min_instances), rules.max_instances)
    name = "Office" if usage.kind == "office-hours" else "Night"
    return (
        _schedule(
            f"{name}Start", _cron(usage, usage.start_hour, lead_minutes(best)), usage, raised * unit, rules, unit
        ),
        _schedule(f"{name}End", _cron(usage, usage.end_hour, 0), usage, rules.min_instances * unit, rules, unit),
    )


def lead_minutes(best: Ranked) -> int:
    """How long before the busy hours instances of the best choice are started."""
    steps = math.ceil(start_of(best.hardware, best.serving).later.high_s / 60 / LEAD_STEP_MINUTES)
    return min(MOST_LEAD_MINUTES, max(LEAST_LEAD_MINUTES, steps * LEAD_STEP_MINUTES))


def _schedule(name: str, cron: str, usage: UsagePattern, minimum: int, rules: ScalingRules, unit: int) -> Schedule:
    return Schedule(
        name=name, cron=cron, time_zone=usage.time_zone, min_units=minimum, max_units=rules.max_instances * unit
    )


def _cron(usage: UsagePattern, hour: int, lead_minutes: int) -> str:
    """Minute and hour in the zone; a lead that would fall on the day before is dropped, so that weekdays stay right."""
    minutes = max(0, hour * 60 - lead_minutes)
    days = "1-5" if usage.weekdays_only else "*"
    return f"{minutes % 60} {minutes // 60} * * {days}"


def purchase_of(request: PoolRequest, best: Ranked, unit: int) -> Purchase:
    """The mix in units and instances, with the share of spot that rounding leaves at the largest size."""
    mix, rules = request.mix, request.pool.scaling
    steady = instances_for(request, best.serving, request.rates.expected)
    base = min(mix.base(steady), rules.max_instances)
    largest = rules.max_instances * unit
    on_demand = mix.on_demand(largest, base * unit)
    return Purchase(
        kind=mix.kind,
        on_demand_base=base * unit,
        on_demand_base_instances=base,
        spot_percent=mix.spot_percent,
        on_demand_percent_above_base=100 - mix.spot_percent,
        spot_percent_at_max=round(100 * (largest - on_demand) / largest, 1),
        commit_instances=base,
        source=mix.source,
    )
