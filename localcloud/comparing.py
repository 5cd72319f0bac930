"""A pool as planned beside the pool as read back: one row per fact, both in the same words."""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.planning.plan import PoolPlan, Scaling, StepOut
from localcloud.reading import Fleet, Group, Policy

SPOT_STRATEGY = "price-capacity-optimized"


@dataclass(frozen=True)
class Fact:
    """One thing about a pool, planned and found."""

    name: str
    planned: str
    found: str

    @property
    def agrees(self) -> bool:
        """Whether the deployment is what the plan says."""
        return self.planned == self.found


def pool_id(role: str) -> str:
    """The construct id of a role's pool, which starts its stack outputs: CostEfficient for cost_efficient."""
    return "".join(word.capitalize() for word in role.split("_"))


def compare(pool: PoolPlan, fleet: Fleet) -> tuple[Fact, ...]:
    """Every planned fact of a pool that an API can read back."""
    group, queue = fleet.groups[pool_id(pool.role)], fleet.queues[pool_id(pool.role)]
    planned = ", ".join(f"{choice.instance_type} x{choice.capacity_weight}" for choice in pool.choices)
    found = ", ".join(f"{override.instance_type} x{override.weight}" for override in group.overrides)
    return (
        Fact("types x weight", planned, found),
        Fact(
            "size, units",
            _range(pool.scaling.min_units, pool.scaling.max_units),
            _range(group.min_units, group.max_units),
        ),
        Fact("on-demand base, units", str(pool.purchase.on_demand_base), str(group.on_demand_base)),
        Fact("spot above the base", f"{pool.purchase.spot_percent} %", f"{100 - group.on_demand_percent_above_base} %"),
        Fact("spot allocation", SPOT_STRATEGY, group.spot_strategy),
        Fact("capacity rebalancing", "on", "on" if group.capacity_rebalance else "off"),
        Fact("zones", str(len(pool.zone_ids)), str(len(group.zones))),
        Fact("schedules", str(len(pool.scaling.schedules)), str(len(group.schedules))),
        *_scaling_facts(pool.scaling, group),
        Fact("dead-letter queue", "yes", "yes" if queue.dead_letter_arn else "no"),
    )


def _range(smallest: int, largest: int) -> str:
    return f"{smallest} to {largest}"


def _scaling_facts(scaling: Scaling, group: Group) -> tuple[Fact, ...]:
    track, out, step_in = (policy_of(group, name) for name in ("Track", "StepOut", "StepIn"))
    steps = ", ".join(f"+{step.add_units} above {step.above_backlog_per_unit}" for step in _ascending(scaling))
    rule = scaling.step_in
    return (
        Fact(
            "target tracking",
            f"backlog per unit {scaling.target_backlog_per_unit}",
            f"backlog per unit {track.target:g}",
        ),
        Fact("step out", steps, _steps_out(out)),
        Fact("step in", f"-{rule.remove_units} after {rule.minutes} min", _step_in(step_in)),
    )


def _ascending(scaling: Scaling) -> list[StepOut]:
    return sorted(scaling.steps_out, key=lambda step: step.above_backlog_per_unit)


def policy_of(group: Group, name: str) -> Policy:
    """The policy with that construct id; CloudFormation makes its name from it.

    Raises:
        ValueError: the group has none, or several.
    """
    (policy,) = [policy for policy in group.policies if f"Scaling{name}" in policy.name]
    return policy


def _steps_out(policy: Policy) -> str:
    """Bounds count from the alarm's threshold."""
    (alarm,) = policy.alarms
    return ", ".join(f"+{change} above {alarm.threshold + (lower or 0):g}" for lower, _upper, change in policy.steps)


def _step_in(policy: Policy) -> str:
    (alarm,), ((_lower, _upper, change),) = policy.alarms, policy.steps
    return f"{change} after {alarm.breaching} min"
