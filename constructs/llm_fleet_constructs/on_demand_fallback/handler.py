"""The function that applies the rule on the on-demand base to one group: invoked by an alarm and by the clock.

It keeps no state of its own: the base in force is the group's, the plan's base comes by the environment, refusals are
the group's activities, and the time of the last change is a tag of the group.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3

from llm_fleet.scaling.on_demand_base import HOLD_MINUTES, Bounds, Group, on_demand_base

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.client import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import ActivityTypeDef, AutoScalingGroupTypeDef

CHANGED_AT_TAG = "llm-fleet:on-demand-base-changed-at"
"""Its value: ISO 8601 time and the base that was set, so that a base which a deploy set since is not taken for ours."""
PENDING = ("Pending", "Pending:Wait", "Pending:Proceed")


def handler(event: object, context: object) -> dict[str, object]:
    """Entry point of AWS Lambda. Both events say only that it is time to look."""
    client = boto3.client("autoscaling")  # pyright: ignore[reportUnknownMemberType]
    return apply(client, os.environ["GROUP_NAME"], bounds_of(os.environ), datetime.now(UTC))


def bounds_of(environ: Mapping[str, str]) -> Bounds:
    """The plan's numbers, which the stack set."""
    names = ("planned_base", "max_units", "max_extra_units", "units_per_instance", "spot_percent")
    return Bounds(**{name: int(environ[name.upper()]) for name in names})


def apply(client: AutoScalingClient, name: str, bounds: Bounds, now: datetime) -> dict[str, object]:
    """Look at the group, decide, and set the base where it must change. Returns what it found and did, and logs it.

    Raises:
        LookupError: there is no such group.
        botocore.exceptions.ClientError: a call was refused.
    """
    group = look(client, name, now)
    decision = on_demand_base(group, bounds)
    if decision.base != group.base:
        # The tag first: a change that fails then waits a little, while one without a time would follow at once.
        _remember(client, name, f"{now.isoformat(timespec='seconds')} {decision.base}")
        client.update_auto_scaling_group(
            AutoScalingGroupName=name,
            MixedInstancesPolicy={"InstancesDistribution": {"OnDemandBaseCapacity": decision.base}},
        )
    event = "on_demand_base_changed" if decision.base != group.base else "on_demand_base_kept"
    report: dict[str, object] = {"event": event, "group": name, **vars(group), "missing": group.missing}
    report |= {"new_base": decision.base, "why": decision.why}
    print(json.dumps(report))
    return report


def look(client: AutoScalingClient, name: str, now: datetime) -> Group:
    """The group as it is now."""
    groups = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not groups:
        raise LookupError(f"there is no group {name}: deploy the stack again")
    (found,) = groups
    base = found.get("MixedInstancesPolicy", {}).get("InstancesDistribution", {}).get("OnDemandBaseCapacity", 0)
    spot, on_demand = _refusals(client, name, now - timedelta(minutes=HOLD_MINUTES))
    return Group(
        base=base,
        desired=found["DesiredCapacity"],
        in_service=_units(found, ("InService",)),
        pending=_units(found, PENDING),
        spot_refusals=spot,
        on_demand_refusals=on_demand,
        minutes_since_change=_minutes_since_change(found, base, now),
    )


def _units(group: AutoScalingGroupTypeDef, states: tuple[str, ...]) -> int:
    return sum(
        int(each.get("WeightedCapacity", 1)) for each in group.get("Instances", []) if each["LifecycleState"] in states
    )


def _refusals(client: AutoScalingClient, name: str, since: datetime) -> tuple[int, int]:
    """Launches that failed since then, of spot and of on-demand. Activities come newest first."""
    counts = {"spot": 0, "on-demand": 0}
    for page in client.get_paginator("describe_scaling_activities").paginate(AutoScalingGroupName=name):
        for activity in page["Activities"]:
            if activity["StartTime"] < since:
                return counts["spot"], counts["on-demand"]
            if market := _refused_market(activity):
                counts[market] += 1
    return counts["spot"], counts["on-demand"]


def _refused_market(activity: ActivityTypeDef) -> str | None:
    """Which of both a failed launch asked for, by its message: `Could not launch Spot Instances. ...` and others."""
    message = activity.get("StatusMessage", "").lower()
    if activity["StatusCode"] != "Failed":
        return None
    return next((market for market in ("spot", "on-demand") if market in message), None)


def _minutes_since_change(group: AutoScalingGroupTypeDef, base: int, now: datetime) -> float | None:
    for tag in group.get("Tags", []):
        if tag.get("Key") == CHANGED_AT_TAG:
            text, _, set_base = tag.get("Value", "").partition(" ")
            return (now - datetime.fromisoformat(text)).total_seconds() / 60 if set_base == str(base) else None
    return None


def _remember(client: AutoScalingClient, name: str, value: str) -> None:
    client.create_or_update_tags(
        Tags=[
            {
                "ResourceId": name,
                "ResourceType": "auto-scaling-group",
                "Key": CHANGED_AT_TAG,
                "Value": value,
                "PropagateAtLaunch": False,
            }
        ]
    )
