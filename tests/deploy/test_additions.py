"""What the launcher adds to ministack: deployed as plain CloudFormation, read back by API, updated and deleted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localcloud.child import ROOT
from localcloud.cloud import LocalCloud

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef
    from mypy_boto3_cloudformation import CloudFormationClient

STACK = "additions"
TEMPLATE = (Path(__file__).parent / "additions.template.json").read_text()


@pytest.fixture(scope="module")
def formation(cloud: LocalCloud) -> Iterator[CloudFormationClient]:
    client = cloud.session().client("cloudformation", endpoint_url=cloud.endpoint_url)
    client.create_stack(StackName=STACK, TemplateBody=TEMPLATE)
    client.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    yield client
    client.delete_stack(StackName=STACK)
    client.get_waiter("stack_delete_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})


@pytest.fixture
def ids(formation: CloudFormationClient) -> dict[str, str]:
    """Logical id -> physical id."""
    resources = formation.describe_stack_resources(StackName=STACK)["StackResources"]
    return {resource["LogicalResourceId"]: resource.get("PhysicalResourceId", "") for resource in resources}


def client_of(cloud: LocalCloud, service: Any) -> Any:
    return cloud.session().client(service, endpoint_url=cloud.endpoint_url)


def group_of(cloud: LocalCloud, name: str) -> AutoScalingGroupTypeDef:
    autoscaling = cloud.session().client("autoscaling", endpoint_url=cloud.endpoint_url)
    return autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]


def test_every_private_name_of_ministack_that_the_additions_rest_on_is_where_they_look() -> None:
    command = [ROOT / ".venv-cloud" / "bin" / "python", "-m", "localcloud.emulator.seams"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_a_zone_id_beyond_the_third_places_the_subnet_and_its_group(cloud: LocalCloud, ids: dict[str, str]) -> None:
    subnet = client_of(cloud, "ec2").describe_subnets(SubnetIds=[ids["Subnet"]])["Subnets"][0]
    assert (subnet["AvailabilityZoneId"], subnet["AvailabilityZone"]) == ("use1-az4", "us-east-1d")
    assert group_of(cloud, ids["Pool"])["AvailabilityZones"] == ["us-east-1d"]


def test_nat_gateway_address_and_flow_log_exist(cloud: LocalCloud, ids: dict[str, str]) -> None:
    ec2 = client_of(cloud, "ec2")
    assert ec2.describe_nat_gateways(NatGatewayIds=[ids["Nat"]])["NatGateways"][0]["SubnetId"] == ids["Subnet"]
    assert ids["Address"] in [address["PublicIp"] for address in ec2.describe_addresses()["Addresses"]]
    assert ec2.describe_flow_logs(FlowLogIds=[ids["FlowLog"]])["FlowLogs"][0]["ResourceId"] == ids["Vpc"]


def test_stand_alone_rules_open_their_security_group(cloud: LocalCloud, ids: dict[str, str]) -> None:
    group = client_of(cloud, "ec2").describe_security_groups(GroupIds=[ids["Group"]])["SecurityGroups"][0]
    (ingress,) = [rule for rule in group["IpPermissions"] if rule.get("FromPort") == 8000]
    assert [address["CidrIp"] for address in ingress["IpRanges"]] == ["10.9.0.0/16"]
    assert 443 in [rule.get("FromPort") for rule in group["IpPermissionsEgress"]]


def test_a_group_reads_back_its_mixed_instances_policy(cloud: LocalCloud, ids: dict[str, str]) -> None:
    policy: Any = group_of(cloud, ids["Pool"]).get("MixedInstancesPolicy")
    overrides = policy["LaunchTemplate"]["Overrides"]
    assert [(one["InstanceType"], one["WeightedCapacity"]) for one in overrides] == [
        ("g5.xlarge", "1"),
        ("g6e.xlarge", "2"),
    ]
    assert policy["LaunchTemplate"]["LaunchTemplateSpecification"]["LaunchTemplateId"] == ids["Template"]
    assert policy["InstancesDistribution"]["OnDemandBaseCapacity"] == 1
    assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 30


def test_a_group_reads_back_rebalancing_warm_up_and_metrics(cloud: LocalCloud, ids: dict[str, str]) -> None:
    group = group_of(cloud, ids["Pool"])
    assert group.get("CapacityRebalance") is True
    assert group.get("DefaultInstanceWarmup") == 0
    assert "GroupInServiceCapacity" in [metric.get("Metric") for metric in group.get("EnabledMetrics", [])]


def test_a_target_tracking_policy_reads_back_its_metric_math(cloud: LocalCloud, ids: dict[str, str]) -> None:
    policies = client_of(cloud, "autoscaling").describe_policies(AutoScalingGroupName=ids["Pool"])["ScalingPolicies"]
    (tracking,) = [policy for policy in policies if policy["PolicyType"] == "TargetTrackingScaling"]
    metrics = tracking["TargetTrackingConfiguration"]["CustomizedMetricSpecification"]["Metrics"]
    assert [metric.get("Expression") for metric in metrics] == [None, "backlog / 2"]


def test_an_alarm_reads_back_its_metric_math_and_its_policy(cloud: LocalCloud, ids: dict[str, str]) -> None:
    (alarm,) = client_of(cloud, "cloudwatch").describe_alarms(AlarmNames=[ids["Busy"]])["MetricAlarms"]
    assert [query.get("Expression") for query in alarm["Metrics"]] == ["visible / 2", None]
    assert alarm["Metrics"][1]["MetricStat"]["Period"] == 60
    assert alarm["AlarmActions"] == [ids["Step"]]
    assert "MetricName" not in alarm


def test_a_composite_alarm_and_a_budget_exist(cloud: LocalCloud, ids: dict[str, str]) -> None:
    described = client_of(cloud, "cloudwatch").describe_alarms(AlarmTypes=["CompositeAlarm"])
    assert (
        ids["Busy"] in {alarm["AlarmName"]: alarm["AlarmRule"] for alarm in described["CompositeAlarms"]}[ids["Either"]]
    )
    budget = client_of(cloud, "budgets").describe_budget(AccountId="000000000000", BudgetName=ids["Budget"])["Budget"]
    assert budget["BudgetLimit"] == {"Amount": "1000", "Unit": "USD"}


def test_a_public_image_parameter_resolves_to_an_image_id(cloud: LocalCloud, ids: dict[str, str]) -> None:
    versions = client_of(cloud, "ec2").describe_launch_template_versions(LaunchTemplateId=ids["Template"])
    assert versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"].startswith("ami-")


def test_an_update_changes_the_group_in_place(
    cloud: LocalCloud, formation: CloudFormationClient, ids: dict[str, str]
) -> None:
    changed = {"OnDemandBase": "3", "Smallest": "2"}
    parameters: Any = [{"ParameterKey": key, "ParameterValue": value} for key, value in changed.items()]
    formation.update_stack(StackName=STACK, UsePreviousTemplate=True, Parameters=parameters)
    formation.get_waiter("stack_update_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    group: Any = group_of(cloud, ids["Pool"])
    assert group["MixedInstancesPolicy"]["InstancesDistribution"]["OnDemandBaseCapacity"] == 3
    assert group["MinSize"] == 2
