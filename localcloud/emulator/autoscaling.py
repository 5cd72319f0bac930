"""Auto Scaling groups keep what CloudFormation gave them: mixed instances, rebalancing, warm-up, metrics, hooks."""

from typing import Any

from ministack.services import autoscaling, ec2
from ministack.services.cloudformation import provisioners

from localcloud.emulator.registry import Properties, extend

# Every group metric, which is what a MetricsCollection entry without names turns on (AWS API EnableMetricsCollection).
GROUP_METRICS = (
    "GroupMinSize",
    "GroupMaxSize",
    "GroupDesiredCapacity",
    "GroupInServiceInstances",
    "GroupPendingInstances",
    "GroupStandbyInstances",
    "GroupTerminatingInstances",
    "GroupTotalInstances",
    "GroupInServiceCapacity",
    "GroupPendingCapacity",
    "GroupStandbyCapacity",
    "GroupTerminatingCapacity",
    "GroupTotalCapacity",
)
KEPT_AS_GIVEN = (
    "AvailabilityZoneDistribution",
    "CapacityRebalance",
    "DefaultInstanceWarmup",
    "InstanceMaintenancePolicy",
    "MaxInstanceLifetime",
    "TargetGroupARNs",
)


def install() -> None:
    """Keep the properties on the group's record and show them in DescribeAutoScalingGroups."""
    extend("AWS::AutoScaling::AutoScalingGroup", keep_members, check)
    autoscaling._ACTION_MAP["DescribeAutoScalingGroups"] = describe_groups


def check(properties: Properties) -> None:
    """Refuse what AWS refuses.

    Raises:
        ValueError: the sizes contradict each other, or a launch template does not exist.
    """
    smallest, largest = int(properties["MinSize"]), int(properties["MaxSize"])
    if smallest > largest:
        raise ValueError(f"Max bound, {largest}, must be greater than or equal to min bound, {smallest}")
    kept_members(properties)


def keep_members(name: str, properties: Properties) -> dict[str, Any]:
    """Put the members that ministack drops on the group's record, and the hooks it was made with beside it."""
    group = autoscaling._asgs[name]
    group["KeptMembers"] = kept_members(properties)
    group["AvailabilityZones"] = zones_of(group["VPCZoneIdentifier"]) or group["AvailabilityZones"]
    for hook in properties.get("LifecycleHookSpecificationList", []):
        hook_name = hook["LifecycleHookName"]
        autoscaling._hooks[f"{name}/{hook_name}"] = autoscaling._hook_record(name, hook_name, hook)
    return {}


def zones_of(subnet_ids: str) -> list[str]:
    """The zone names of a comma-separated list of subnets, each once, as AWS derives a group's zones."""
    subnets = (ec2._subnets.get(subnet_id) for subnet_id in subnet_ids.split(","))
    return sorted({subnet["AvailabilityZone"] for subnet in subnets if subnet})


def kept_members(properties: Properties) -> dict[str, Any]:
    """The members of the API's answer that ministack does not store, in the API's own shape."""
    members = {name: properties[name] for name in KEPT_AS_GIVEN if name in properties}
    if "MixedInstancesPolicy" in properties:
        members["MixedInstancesPolicy"] = mixed_instances_policy(properties["MixedInstancesPolicy"])
    if "MetricsCollection" in properties:
        members["EnabledMetrics"] = [
            {"Metric": metric, "Granularity": collection["Granularity"]}
            for collection in properties["MetricsCollection"]
            for metric in collection.get("Metrics", GROUP_METRICS)
        ]
    return members


def mixed_instances_policy(policy: Properties) -> dict[str, Any]:
    """The policy with each launch template named by id and name, as the API answers."""
    template = policy["LaunchTemplate"]
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": launch_template(template["LaunchTemplateSpecification"]),
            "Overrides": [
                {**override, "LaunchTemplateSpecification": launch_template(override["LaunchTemplateSpecification"])}
                if "LaunchTemplateSpecification" in override
                else override
                for override in template.get("Overrides", [])
            ],
        },
        "InstancesDistribution": policy.get("InstancesDistribution", {}),
    }


def launch_template(specification: Properties) -> dict[str, Any]:
    """A launch template reference with the half of (id, name) that the template left out."""
    found = provisioners._asg_launch_template(specification)
    if found["LaunchTemplateId"] not in ec2._launch_templates:
        raise ValueError(f"The launch template {found['LaunchTemplateId']} does not exist")
    return found


def describe_groups(p: Properties) -> tuple[int, dict[str, str], bytes]:
    """DescribeAutoScalingGroups with the kept members put behind each group's name."""
    status, headers, body = autoscaling._describe_asgs(p)
    text = body.decode()
    for name, group in autoscaling._asgs.items():
        opening = f"<member><AutoScalingGroupName>{name}</AutoScalingGroupName>"
        text = text.replace(opening, opening + autoscaling._member_xml(group.get("KeptMembers", {})))
    return status, headers, text.encode()
