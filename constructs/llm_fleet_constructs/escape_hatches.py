"""Every place where the L2 constructs cannot say what is needed. One function per override, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2


def place_subnet_in_zone_id(subnet: ec2.ISubnet, zone_id: str) -> None:
    """Place by zone id: names (us-east-1a) mean another zone in every account, ids (use1-az1) do not. L2 knows
    names only.
    """
    resource = cast(ec2.CfnSubnet, subnet.node.default_child)
    resource.availability_zone = None
    resource.availability_zone_id = zone_id


def hooks_from_the_first_instance(
    group: autoscaling.AutoScalingGroup,
    hooks: Sequence[autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty],
) -> None:
    """Hooks inside the group: L2's add_lifecycle_hook makes them after it, when the first instances are already
    past them.
    """
    resource = cast(autoscaling.CfnAutoScalingGroup, group.node.default_child)
    resource.lifecycle_hook_specification_list = list(hooks)
