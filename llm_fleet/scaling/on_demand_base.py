"""How many capacity units of a group must be on-demand.

EC2 launches what its mix says and never takes on-demand where spot is refused: the group then stays below its desired
size for as long as spot is dry. So the on-demand base is raised by the units that are missing, and goes back to the
plan one instance at a time once spot has not been refused for a while. Each step back is a trial: where spot is still
dry, its refusal starts the wait anew.
"""

from __future__ import annotations

from dataclasses import dataclass

HOLD_MINUTES = 60
"""Without a refusal of spot, and without a change, before an instance is given back: capacity comes and goes by the
hour, and each trial may move a running instance.
"""
SETTLE_MINUTES = 5
"""From one raise to the next: what it ordered shows as pending within a minute or two."""


@dataclass(frozen=True)
class Group:
    """A group as it is now, in capacity units. Refusals are those of the last HOLD_MINUTES."""

    base: int
    """On-demand base in force."""
    desired: int
    in_service: int
    pending: int
    """Units that boot."""
    spot_refusals: int
    on_demand_refusals: int
    minutes_since_change: float | None
    """Since this rule last changed the base; None where it never did, or a deploy has set the base since."""

    @property
    def missing(self) -> int:
        """Units that the group wants and has not got from EC2."""
        return max(0, self.desired - self.in_service - self.pending)


@dataclass(frozen=True)
class Bounds:
    """What the plan says, in capacity units."""

    planned_base: int
    max_units: int
    max_extra_units: int
    """Most that is ever added to the planned base."""
    units_per_instance: int
    """What is given back at once."""
    spot_percent: int
    """Of what is above the base; above 0."""


@dataclass(frozen=True)
class Decision:
    """The base to set, and why; the base in force where nothing is to change."""

    base: int
    why: str


def on_demand_base(group: Group, bounds: Bounds) -> Decision:
    """The base that the group should have now."""
    if group.base < bounds.planned_base:
        return Decision(group.base, f"below the plan's {bounds.planned_base}: somebody set it, so it stays")
    if group.missing and group.spot_refusals:
        return _raised(group, bounds)
    if group.base > bounds.planned_base:
        return _given_back(group, bounds)
    return Decision(group.base, f"the plan's base; {group.missing} units missing, no spot refused")


def _raised(group: Group, bounds: Bounds) -> Decision:
    limit = min(bounds.max_units, group.desired, bounds.planned_base + bounds.max_extra_units)
    # A unit of base takes only its spot share from spot; the rest was on-demand already.
    wanted = group.base + -(-group.missing * 100 // bounds.spot_percent)
    base = min(wanted, limit)
    facts = f"{group.missing} units missing, spot refused {group.spot_refusals} times"
    if group.on_demand_refusals:
        return Decision(group.base, f"{facts}, but on-demand is refused too: more of it would change nothing")
    if _changed_within(group, SETTLE_MINUTES):
        return Decision(group.base, f"{facts}; waits for what the last change ordered")
    if base <= group.base:
        return Decision(group.base, f"{facts}, but the base is at its limit of {limit}")
    return Decision(base, f"{facts}: {base - group.base} units more on-demand")


def _given_back(group: Group, bounds: Bounds) -> Decision:
    extra = f"{group.base - bounds.planned_base} units above the plan"
    if group.spot_refusals:
        return Decision(group.base, f"{extra}; spot was refused {group.spot_refusals} times")
    if group.missing and not group.on_demand_refusals:
        return Decision(group.base, f"{extra}; {group.missing} units are missing")
    if _changed_within(group, HOLD_MINUTES):
        return Decision(group.base, f"{extra}; the last change is less than {HOLD_MINUTES} minutes old")
    base = max(bounds.planned_base, group.base - bounds.units_per_instance)
    if (
        group.missing
    ):  # EC2 holds spot back until the base stands: an unfillable base would keep the pool short for ever
        return Decision(base, f"{extra}; on-demand is refused, and spot is not: {group.base - base} units back to spot")
    return Decision(base, f"{extra}; spot was not refused lately: {group.base - base} units back to spot")


def _changed_within(group: Group, minutes: int) -> bool:
    return group.minutes_since_change is not None and group.minutes_since_change < minutes
