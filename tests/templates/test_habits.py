"""What no template may do, whatever the pattern."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.templates.assembly import ROOT, Assembly
from tests.templates.test_snapshots import STACKS

PHYSICAL_NAMES = {
    "AWS::AutoScaling::AutoScalingGroup": "AutoScalingGroupName",
    "AWS::Budgets::Budget": "BudgetName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::DynamoDB::GlobalTable": "TableName",
    "AWS::EC2::LaunchTemplate": "LaunchTemplateName",
    "AWS::EC2::SecurityGroup": "GroupName",
    "AWS::ECS::Cluster": "ClusterName",
    "AWS::ECS::Service": "ServiceName",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "Name",
    "AWS::ElasticLoadBalancingV2::TargetGroup": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SSM::Parameter": "Name",
}
PRODUCT = [
    path
    for folder in ("constructs/llm_fleet_constructs", "stacks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not {"on_instance", "on_demand_fallback"} & set(path.parts)  # what runs elsewhere
]
each_module = pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))


def calls(path: Path) -> set[str]:
    """Names of all functions and methods that a module calls."""
    tree = ast.parse(path.read_text())
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in functions}


@pytest.mark.parametrize("stack", STACKS)
def test_nothing_has_a_physical_name(stack: str, assembly: Assembly) -> None:
    """A named resource cannot be replaced, and cannot stand twice in an account."""
    for logical_id, resource in assembly.template(stack)["Resources"].items():
        if name := PHYSICAL_NAMES.get(resource["Type"]):
            assert name not in resource.get("Properties", {}), logical_id


@each_module
def test_no_module_overrides_a_logical_id_or_builds_a_composite_alarm(path: Path) -> None:
    assert calls(path).isdisjoint({"override_logical_id", "CompositeAlarm", "CfnCompositeAlarm"})


@each_module
def test_generated_properties_are_overridden_in_one_place_only(path: Path) -> None:
    overriding = {"add_property_override", "add_override", "add_property_deletion_override", "add_deletion_override"}
    uses = bool(calls(path) & overriding) or ".default_child" in path.read_text()
    assert not uses or path.name == "escape_hatches.py"


@each_module
def test_no_construct_reads_context_environment_or_lookups(path: Path) -> None:
    assert calls(path).isdisjoint({"try_get_context", "get_context", "from_lookup", "value_from_lookup", "getenv"})
    assert "os.environ" not in path.read_text()


def test_stacks_decide_nothing() -> None:
    """Composition only: no stack compares a number of the plan with another."""
    for path in (ROOT / "stacks" / "foundation.py", ROOT / "stacks" / "serving.py"):
        comparisons = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Compare)
            and any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops)
        ]
        assert comparisons == [], path
