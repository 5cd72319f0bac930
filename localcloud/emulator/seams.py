"""The private names of ministack that our additions rest on. One that an upgrade moved stops the start, by name."""

import importlib
import sys

_CLOUDFORMATION = "ministack.services.cloudformation.provisioners"
_SERVICES = "ministack.services."

PRIVATE_NAMES = {
    _CLOUDFORMATION: (
        "_RESOURCE_HANDLERS",
        "_asg_launch_template",
        "_cfn_bool",
        "_cw_metric_alarm_record",
        "_ec2_apply_tags",
        "_ec2_sg_permissions",
        "_physical_name",
    ),
    f"{_SERVICES}autoscaling": ("_ACTION_MAP", "_asgs", "_describe_asgs", "_hook_record", "_hooks", "_member_xml"),
    f"{_SERVICES}budgets": ("_create_budget", "_delete_budget", "_update_budget", "_notification_store"),
    f"{_SERVICES}cloudwatch": ("_composite_alarms", "_put_composite_alarm"),
    f"{_SERVICES}ec2": (
        "_addresses",
        "_allocate_address",
        "_az_id_for_zone_name",
        "_create_flow_logs",
        "_create_nat_gateway",
        "_flow_logs",
        "_launch_templates",
        "_nat_gateways",
        "_release_address",
        "_security_groups",
        "_subnets",
        "_vpcs",
        "_zone_name_for_az_id",
    ),
    f"{_SERVICES}ssm": ("_PUBLIC_AMI_PARAMETERS",),
}

EXTENDED_TYPES = ("AWS::AutoScaling::AutoScalingGroup", "AWS::EC2::VPC")


def moved() -> list[str]:
    """Every name that is no longer where our additions look for it."""
    names = [
        f"{module}.{name}"
        for module, names in PRIVATE_NAMES.items()
        for name in names
        if not hasattr(importlib.import_module(module), name)
    ]
    handlers = getattr(importlib.import_module(_CLOUDFORMATION), "_RESOURCE_HANDLERS", {})
    return names + [
        f"handlers of {kind}" for kind in EXTENDED_TYPES if {"create", "update"} - set(handlers.get(kind, ()))
    ]


def require() -> None:
    """Stop the process with the list of moved names, if there are any."""
    if names := moved():
        sys.exit(f"localcloud: this ministack has moved or dropped {', '.join(names)}; mend localcloud/emulator")


if __name__ == "__main__":
    require()
