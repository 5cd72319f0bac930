"""Read back, by the AWS API alone, what a deployed pattern consists of. Works on any endpoint, AWS itself included."""

# session.client has an overload for every AWS service, and only those in requirements/dev.in have stubs installed:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef, ScalingPolicyTypeDef
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class Override:
    """One instance type of a group, with its weight in capacity units."""

    instance_type: str
    weight: int


@dataclass(frozen=True)
class Policy:
    """A scaling policy with the alarms that run it. CloudWatch's own alarms of target tracking are not among them."""

    name: str
    kind: str
    target: float | None
    """Of target tracking, in the unit of its metric."""
    scales_in: bool
    metrics: int
    """Queries of the metric math behind target tracking."""
    steps: tuple[tuple[float | None, float | None, int], ...]
    """(lower bound, upper bound, change in units) above or below the alarm's threshold."""
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True)
class Alarm:
    """A metric alarm. `metrics` counts its queries: more than one means metric math."""

    name: str
    threshold: float
    comparison: str
    periods: int
    breaching: int
    metrics: int
    runs: tuple[str, ...]
    """Services that its alarm actions call, such as autoscaling and sns."""


@dataclass(frozen=True)
class Queue:
    """A pool's queue and where its poison goes."""

    url: str
    visibility_timeout_seconds: int
    dead_letter_arn: str
    max_receives: int
    encrypted: bool


@dataclass(frozen=True)
class Group:
    """A pool's Auto Scaling group. Sizes in capacity units."""

    name: str
    min_units: int
    max_units: int
    overrides: tuple[Override, ...]
    on_demand_base: int
    on_demand_percent_above_base: int
    spot_strategy: str
    capacity_rebalance: bool
    warm_up_seconds: int | None
    zones: tuple[str, ...]
    hooks: tuple[str, ...]
    schedules: tuple[str, ...]
    policies: tuple[Policy, ...]


@dataclass(frozen=True)
class Fleet:
    """What stands behind a pattern's name: its stack's outputs, and a group and a queue per pool."""

    outputs: Mapping[str, str]
    groups: Mapping[str, Group]
    """By the pool's construct id, such as CostEfficient."""
    queues: Mapping[str, Queue]
    alarms: tuple[Alarm, ...]
    """Every metric alarm of the stack, those of the policies included."""

    @property
    def gateway_url(self) -> str:
        """Where OpenAI clients connect."""
        return self.outputs["GatewayUrl"]


class FleetReader:
    """The API clients that a reading needs, all of one session."""

    def __init__(self, session: boto3.Session, endpoint_url: str | None = None) -> None:
        self._cloudformation = session.client("cloudformation", endpoint_url=endpoint_url)
        self._autoscaling: AutoScalingClient = session.client("autoscaling", endpoint_url=endpoint_url)
        self._cloudwatch = session.client("cloudwatch", endpoint_url=endpoint_url)
        self._sqs: SQSClient = session.client("sqs", endpoint_url=endpoint_url)

    def fleet(self, pattern: str) -> Fleet:
        """The fleet of a deployed pattern.

        Raises:
            botocore.exceptions.ClientError: there is no such stack.
        """
        outputs = self.outputs(pattern)
        alarms = self._alarms(pattern)
        return Fleet(
            outputs=outputs,
            groups={id: self._group(name, alarms) for id, name in _by_pool(outputs, "Group").items()},
            queues={id: self._queue(url) for id, url in _by_pool(outputs, "Queue").items()},
            alarms=tuple(_alarm(alarm) for alarm in alarms),
        )

    def outputs(self, stack: str) -> dict[str, str]:
        """The outputs of a stack by their keys."""
        (described,) = self._cloudformation.describe_stacks(StackName=stack)["Stacks"]
        return {output.get("OutputKey", ""): output.get("OutputValue", "") for output in described.get("Outputs", [])}

    def _alarms(self, stack: str) -> list[MetricAlarmTypeDef]:
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
        names = [
            resource.get("PhysicalResourceId", "")
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::CloudWatch::Alarm"
        ]
        described = self._cloudwatch.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"])
        return [alarm for page in described for alarm in page["MetricAlarms"] if alarm.get("AlarmName") in names]

    def _group(self, name: str, alarms: list[MetricAlarmTypeDef]) -> Group:
        described = self._autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        hooks = self._autoscaling.describe_lifecycle_hooks(AutoScalingGroupName=name)["LifecycleHooks"]
        schedules = self._autoscaling.describe_scheduled_actions(AutoScalingGroupName=name)
        policies = self._autoscaling.describe_policies(AutoScalingGroupName=name)["ScalingPolicies"]
        return _group(
            described["AutoScalingGroups"][0],
            hooks=tuple(sorted(hook.get("LifecycleTransition", "") for hook in hooks)),
            schedules=tuple(
                sorted(
                    f"{action.get('Recurrence')} {action.get('TimeZone')}"
                    for action in schedules["ScheduledUpdateGroupActions"]
                )
            ),
            policies=tuple(_policy(policy, alarms) for policy in policies),
        )

    def _queue(self, url: str) -> Queue:
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        redrive = json.loads(attributes["RedrivePolicy"])
        return Queue(
            url=url,
            visibility_timeout_seconds=int(attributes["VisibilityTimeout"]),
            dead_letter_arn=redrive["deadLetterTargetArn"],
            max_receives=int(redrive["maxReceiveCount"]),
            encrypted="KmsMasterKeyId" in attributes or attributes.get("SqsManagedSseEnabled") == "true",
        )


def _by_pool(outputs: Mapping[str, str], ending: str) -> dict[str, str]:
    """Outputs such as CostEfficientGroup by the pool's construct id in front."""
    return {key.removesuffix(ending): value for key, value in outputs.items() if key.endswith(ending)}


def _group(
    group: AutoScalingGroupTypeDef, hooks: tuple[str, ...], schedules: tuple[str, ...], policies: tuple[Policy, ...]
) -> Group:
    mixed = group.get("MixedInstancesPolicy", {})
    distribution = mixed.get("InstancesDistribution", {})
    return Group(
        name=group["AutoScalingGroupName"],
        min_units=group["MinSize"],
        max_units=group["MaxSize"],
        overrides=tuple(
            Override(override.get("InstanceType", ""), int(override.get("WeightedCapacity", "1")))
            for override in mixed.get("LaunchTemplate", {}).get("Overrides", [])
        ),
        on_demand_base=distribution.get("OnDemandBaseCapacity", 0),
        on_demand_percent_above_base=distribution.get("OnDemandPercentageAboveBaseCapacity", 100),
        spot_strategy=distribution.get("SpotAllocationStrategy", ""),
        capacity_rebalance=group.get("CapacityRebalance", False),
        warm_up_seconds=group.get("DefaultInstanceWarmup"),
        zones=tuple(group["AvailabilityZones"]),
        hooks=hooks,
        schedules=schedules,
        policies=policies,
    )


def _policy(policy: ScalingPolicyTypeDef, alarms: list[MetricAlarmTypeDef]) -> Policy:
    tracking = policy.get("TargetTrackingConfiguration")
    own = [alarm for alarm in alarms if policy.get("PolicyARN") in alarm.get("AlarmActions", [])]
    return Policy(
        name=policy.get("PolicyName", ""),
        kind=policy.get("PolicyType", ""),
        target=tracking["TargetValue"] if tracking else None,
        scales_in=not tracking.get("DisableScaleIn", False) if tracking else True,
        metrics=len(tracking.get("CustomizedMetricSpecification", {}).get("Metrics", [])) if tracking else 0,
        steps=tuple(
            (step.get("MetricIntervalLowerBound"), step.get("MetricIntervalUpperBound"), step["ScalingAdjustment"])
            for step in policy.get("StepAdjustments", [])
        ),
        alarms=tuple(_alarm(alarm) for alarm in own),
    )


def _alarm(alarm: MetricAlarmTypeDef) -> Alarm:
    periods = alarm.get("EvaluationPeriods", 0)
    return Alarm(
        name=alarm.get("AlarmName", ""),
        threshold=alarm.get("Threshold", 0),
        comparison=alarm.get("ComparisonOperator", ""),
        periods=periods,
        breaching=alarm.get("DatapointsToAlarm", periods),
        metrics=len(alarm.get("Metrics", [])) or 1,
        runs=tuple(arn.split(":")[2] for arn in alarm.get("AlarmActions", [])),
    )
