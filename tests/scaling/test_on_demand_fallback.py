"""The function that applies the rule: what it asks of AWS and what it changes. Botocore itself checks every call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from llm_fleet.scaling.on_demand_base import Bounds
from llm_fleet_constructs.on_demand_fallback.handler import CHANGED_AT_TAG, apply, bounds_of, look

NAME = "chat-group"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BOUNDS = Bounds(planned_base=1, max_units=10, max_extra_units=5, units_per_instance=1, spot_percent=100)
SPOT = "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity. Launching failed."
OLD_SPOT = "There is no Spot capacity available that matches your request. Launching EC2 instance failed."
ON_DEMAND = "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We do not have sufficient capacity."
AMI = "The image id '[ami-1]' does not exist. Launching EC2 instance failed."

client: Any = boto3.client(
    "autoscaling", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
)


@pytest.fixture
def aws() -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def instance(state: str, weight: str | None = "1") -> dict[str, Any]:
    common = {"InstanceId": "i-1", "AvailabilityZone": "z", "HealthStatus": "Healthy", "ProtectedFromScaleIn": False}
    return {**common, "LifecycleState": state} | ({"WeightedCapacity": weight} if weight else {})


def answer_group(
    aws: Stubber, *, base: int = 1, desired: int = 4, instances: list[Any] | None = None, changed: str | None = None
) -> None:
    tag = {"ResourceId": NAME, "ResourceType": "auto-scaling-group", "Key": CHANGED_AT_TAG, "Value": changed}
    group = {
        "AutoScalingGroupName": NAME,
        "MinSize": 1,
        "MaxSize": 10,
        "DesiredCapacity": desired,
        "DefaultCooldown": 300,
        "AvailabilityZones": ["z"],
        "HealthCheckType": "EC2",
        "CreatedTime": NOW,
        "Instances": [instance("InService")] if instances is None else instances,
        "MixedInstancesPolicy": {"InstancesDistribution": {"OnDemandBaseCapacity": base}},
        "Tags": [tag] if changed else [],
    }
    aws.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": [group]}, {"AutoScalingGroupNames": [NAME]})


def activity(message: str | None, minutes_ago: float = 5, status: str = "Failed") -> dict[str, Any]:
    start = NOW - timedelta(minutes=minutes_ago)
    facts = {"ActivityId": "a", "AutoScalingGroupName": NAME, "Cause": "c", "StartTime": start, "StatusCode": status}
    return facts | ({"StatusMessage": message} if message else {})


def answer_activities(aws: Stubber, *activities: dict[str, Any], more: bool = False) -> None:
    page: dict[str, Any] = {"Activities": list(activities)}
    aws.add_response("describe_scaling_activities", page | ({"NextToken": "more"} if more else {}))


def expect_change(aws: Stubber, base: int) -> None:
    """First the tag, then the base and nothing else of the group."""
    tag = {
        "ResourceId": NAME,
        "ResourceType": "auto-scaling-group",
        "Key": CHANGED_AT_TAG,
        "Value": f"2026-11-24T12:00:00+00:00 {base}",
        "PropagateAtLaunch": False,
    }
    aws.add_response("create_or_update_tags", {}, {"Tags": [tag]})
    policy = {"InstancesDistribution": {"OnDemandBaseCapacity": base}}
    aws.add_response("update_auto_scaling_group", {}, {"AutoScalingGroupName": NAME, "MixedInstancesPolicy": policy})


def test_refused_spot_raises_the_base_and_the_log_says_why(aws: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    answer_group(aws)
    answer_activities(aws, activity(SPOT), activity(OLD_SPOT, 30))
    expect_change(aws, 4)
    report = apply(client, NAME, BOUNDS, NOW)
    assert json.loads(capsys.readouterr().out) == report
    assert (report["event"], report["base"], report["new_base"]) == ("on_demand_base_changed", 1, 4)
    assert report["why"] == "3 units missing, spot refused 2 times: 3 units more on-demand"


def test_a_group_as_planned_is_only_looked_at(aws: Stubber) -> None:
    answer_group(aws, desired=1)
    answer_activities(aws, activity(None, status="Successful"))
    assert apply(client, NAME, BOUNDS, NOW)["event"] == "on_demand_base_kept"


def test_an_hour_after_its_own_change_it_gives_an_instance_back(aws: Stubber) -> None:
    answer_group(aws, base=3, desired=1, changed="2026-11-24T11:00:00+00:00 3")
    answer_activities(aws)
    expect_change(aws, 2)
    apply(client, NAME, BOUNDS, NOW)


def test_units_are_weights_and_instances_that_boot_are_pending(aws: Stubber) -> None:
    boot = [instance("Pending", "2"), instance("Pending:Wait", "2"), instance("Pending:Proceed", None)]
    answer_group(aws, instances=[instance("InService", "4"), *boot, instance("Terminating:Wait", "8")])
    answer_activities(aws)
    group = look(client, NAME, NOW)
    assert (group.in_service, group.pending) == (4, 5)


def test_only_failed_launches_of_the_last_hour_count_and_each_for_its_market(aws: Stubber) -> None:
    answer_group(aws)
    answer_activities(aws, activity(SPOT, 1), activity(SPOT, 2, "Successful"), activity(AMI, 3), more=True)
    answer_activities(aws, activity(ON_DEMAND, 30), activity(SPOT, 59), activity(SPOT, 61), more=True)
    group = look(client, NAME, NOW)
    assert (group.spot_refusals, group.on_demand_refusals) == (2, 1)


def test_the_time_of_a_base_that_a_deploy_has_set_since_says_nothing(aws: Stubber) -> None:
    answer_group(aws, base=1, changed="2026-11-24T11:59:00+00:00 4")
    answer_activities(aws)
    assert look(client, NAME, NOW).minutes_since_change is None


def test_a_group_that_is_gone_fails_the_run_and_its_name_is_told(aws: Stubber) -> None:
    aws.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": []})
    with pytest.raises(LookupError, match=NAME):
        apply(client, NAME, BOUNDS, NOW)


def test_a_refused_change_fails_the_run(aws: Stubber) -> None:
    """So that the alarm on errors rings."""
    answer_group(aws)
    answer_activities(aws, activity(SPOT))
    aws.add_client_error("create_or_update_tags", "AccessDenied")
    with pytest.raises(ClientError, match="AccessDenied"):
        apply(client, NAME, BOUNDS, NOW)


def test_the_plans_numbers_come_by_the_environment() -> None:
    environ = {
        "PLANNED_BASE": "1",
        "MAX_UNITS": "10",
        "MAX_EXTRA_UNITS": "5",
        "UNITS_PER_INSTANCE": "1",
        "SPOT_PERCENT": "100",
    }
    assert bounds_of(environ) == BOUNDS
