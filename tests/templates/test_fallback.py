"""While spot is dry: a function for each pool with spot, that may change its own group only."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning.plan import PoolPlan
from tests.templates.assembly import Assembly, Template
from tests.templates.reading import POOL_PREFIX, actions, of_type, statements, the
from tests.templates.test_pools import POOLS, each_pool

FUNCTION = "AWS::Lambda::Function"
WITH_SPOT = [(pattern, pool) for pattern, pool in POOLS if pool.purchase.spot_percent > 0]
each_pool_with_spot = pytest.mark.parametrize(
    ("pattern", "pool"), WITH_SPOT, ids=[f"{pattern}-{pool.role}" for pattern, pool in WITH_SPOT]
)


def prefix(pool: PoolPlan) -> str:
    return f"{POOL_PREFIX[pool.role]}Fallback"


@each_pool
def test_only_a_pool_with_spot_has_the_function(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    found = of_type(assembly.template(pattern), FUNCTION, prefix(pool))
    assert len(found) == (1 if pool.purchase.spot_percent > 0 else 0)


@each_pool_with_spot
def test_it_knows_the_plans_base_and_limits(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    found = the(assembly.template(pattern), FUNCTION, prefix(pool))["Environment"]["Variables"]
    assert int(found["PLANNED_BASE"]) == pool.purchase.on_demand_base
    assert int(found["MAX_UNITS"]) == pool.scaling.max_units
    assert 0 < int(found["MAX_EXTRA_UNITS"]) <= (pool.scaling.max_units + 1) // 2
    assert int(found["UNITS_PER_INSTANCE"]) == pool.scaling.units_per_instance
    assert int(found["SPOT_PERCENT"]) == pool.purchase.spot_percent


@each_pool_with_spot
def test_it_changes_its_own_group_and_only_looks_at_others(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    template = assembly.template(pattern)
    own_group = next(iter(of_type(template, "AWS::AutoScaling::AutoScalingGroup", POOL_PREFIX[pool.role])))
    allowed = {tuple(actions(found)): json.dumps(found["Resource"]) for found in statements(template, prefix(pool))}
    changing = allowed.pop(("autoscaling:CreateOrUpdateTags", "autoscaling:UpdateAutoScalingGroup"))
    looking = allowed.pop(("autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities"))
    logging = allowed.pop(("logs:CreateLogStream", "logs:PutLogEvents"))
    assert own_group in changing
    assert looking == '"*"'
    assert "FallbackLog" in logging
    assert allowed == {}


@each_pool_with_spot
def test_the_alarm_on_refused_units_and_the_clock_start_it(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    template = assembly.template(pattern)
    function = next(iter(of_type(template, FUNCTION, prefix(pool))))
    alarm = the(template, "AWS::CloudWatch::Alarm", f"{prefix(pool)}Refused")
    clock = the(template, "AWS::Events::Rule", f"{prefix(pool)}Clock")
    arn = {"Fn::GetAtt": [function, "Arn"]}
    assert alarm["AlarmActions"] == [arn]
    assert [metric["Expression"] for metric in alarm["Metrics"] if "Expression" in metric] == [
        "desired - in_service - pending"
    ]
    assert clock["ScheduleExpression"] == "rate(15 minutes)"
    assert [target["Arn"] for target in clock["Targets"]] == [arn]
    permissions = of_type(template, "AWS::Lambda::Permission").values()
    callers = {item["Principal"] for item in permissions if item["FunctionName"] in (arn, {"Ref": function})}
    assert callers == {"events.amazonaws.com", "lambda.alarms.cloudwatch.amazonaws.com"}


@each_pool_with_spot
def test_its_failures_ring_and_its_log_ends(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    template = assembly.template(pattern)
    alarm = the(template, "AWS::CloudWatch::Alarm", f"{POOL_PREFIX[pool.role]}AlarmsFallbackErrors")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Errors")
    assert (alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (30, 3)
    log = the(template, "AWS::Logs::LogGroup", prefix(pool))
    assert log["RetentionInDays"] > 0
    assert "KmsKeyId" in log


@pytest.mark.parametrize("pattern", pattern_names())
def test_its_code_is_the_handler_and_the_rule_and_imports_nothing_else_of_ours(
    pattern: str, assembly: Assembly
) -> None:
    folder = assembly.folder / f"asset.{code_hash(assembly.template(pattern))}"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    package = {f"llm_fleet/{name}" for name in ("__init__.py", "scaling/__init__.py", "scaling/on_demand_base.py")}
    assert files == {"handler.py", *package}
    code = "import sys, handler; print(sorted(name for name in sys.modules if name.startswith('llm_fleet')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['llm_fleet', 'llm_fleet.scaling', 'llm_fleet.scaling.on_demand_base']"


def code_hash(template: Template) -> str:
    """Of the fallback's code: the same for every pool."""
    functions: list[dict[str, Any]] = [
        found for name, found in of_type(template, FUNCTION).items() if "Fallback" in name
    ]
    (key,) = {found["Code"]["S3Key"] for found in functions}
    return key.removesuffix(".zip")
