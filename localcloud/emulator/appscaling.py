"""Application Auto Scaling for ECS services: records behind CloudFormation. ministack has no API that reads them."""

from ministack.core.responses import AccountRegionScopedDict, get_account_id, get_region, new_uuid

from localcloud.emulator.registry import Created, Properties, register

_targets = AccountRegionScopedDict()
_policies = AccountRegionScopedDict()


def install() -> None:
    """Register the two types."""
    register("AWS::ApplicationAutoScaling::ScalableTarget", create_target, delete_target)
    register("AWS::ApplicationAutoScaling::ScalingPolicy", create_policy, delete_policy)


def target_id(properties: Properties) -> str:
    """What Ref gives: resource, dimension and namespace joined by bars."""
    return "|".join(properties[part] for part in ("ResourceId", "ScalableDimension", "ServiceNamespace"))


def create_target(logical_id: str, properties: Properties, stack: str) -> Created:
    """AWS::ApplicationAutoScaling::ScalableTarget."""
    if int(properties["MinCapacity"]) > int(properties["MaxCapacity"]):
        raise ValueError("Minimum capacity cannot be greater than maximum capacity")
    identity = target_id(properties)
    _targets[identity] = properties
    return identity, {"Id": identity}


def delete_target(identity: str, properties: Properties) -> None:
    """Forget the target."""
    _targets.pop(identity, None)


def create_policy(logical_id: str, properties: Properties, stack: str) -> Created:
    """AWS::ApplicationAutoScaling::ScalingPolicy: needs its target, as on AWS. Ref is the policy's ARN."""
    identity = properties.get("ScalingTargetId") or target_id(properties)
    if identity not in _targets:
        raise ValueError(f"No scalable target registered for {identity}")
    arn = (
        f"arn:aws:autoscaling:{get_region()}:{get_account_id()}:scalingPolicy:{new_uuid()}:"
        f"resource/{identity}:policyName/{properties['PolicyName']}"
    )
    _policies[arn] = properties
    return arn, {"Arn": arn}


def delete_policy(arn: str, properties: Properties) -> None:
    """Forget the policy."""
    _policies.pop(arn, None)
