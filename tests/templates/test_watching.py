"""Alarms lead to runbooks that exist; budget, topic and dashboard say what the plan says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from tests.templates.assembly import ROOT, Assembly, Template
from tests.templates.reading import POOL_PREFIX, of_type, the
from tests.templates.test_pools import each_pool

ALARM = "AWS::CloudWatch::Alarm"
RUNBOOK = re.compile(r" Runbook: (docs/runbooks/[a-z-]+\.md)$")
DRIVES_SCALING = "docs/runbooks/scaling.md"
KINDS = {"BacklogOld", "DeadLetters", "BelowDesired", "NoWorkers", "Unregistered", "Latency"}


@pytest.fixture(params=pattern_names())
def pattern(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def template(pattern: str, assembly: Assembly) -> Template:
    return assembly.template(pattern)


def runbook_of(properties: dict[str, Any]) -> str:
    found = RUNBOOK.search(properties["AlarmDescription"])
    assert found, properties["AlarmDescription"]
    return found[1]


def test_every_alarm_says_what_happened_and_names_a_runbook_that_exists(template: Template) -> None:
    for properties in of_type(template, ALARM).values():
        page = ROOT / runbook_of(properties)
        assert page.is_file(), page
        assert len(properties["AlarmDescription"].split(" Runbook:")[0]) > 30


def test_every_alarm_rings_a_person_or_scales_a_group(template: Template) -> None:
    topic = next(iter(of_type(template, "AWS::SNS::Topic")))
    for properties in of_type(template, ALARM).values():
        rings = properties["AlarmActions"] == [{"Ref": topic}]
        assert rings != (runbook_of(properties) == DRIVES_SCALING)


def test_every_runbook_is_used_or_reached_from_the_list(assembly: Assembly) -> None:
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", (ROOT / "docs/runbooks/README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README.md"}
    named = {
        runbook_of(properties).rsplit("/", 1)[1]
        for pattern in pattern_names()
        for properties in of_type(assembly.template(pattern), ALARM).values()
    }
    assert named <= listed


@each_pool
def test_each_pool_has_an_alarm_of_each_kind(pattern: str, pool: Any, assembly: Assembly) -> None:
    prefix = f"{POOL_PREFIX[pool.role]}Alarms"
    ids = list(of_type(assembly.template(pattern), ALARM, prefix))
    assert {kind for kind in KINDS if any(id.startswith(prefix + kind) for id in ids)} == KINDS


@each_pool
def test_the_latency_alarm_rings_at_the_pools_own_mark(pattern: str, pool: Any, assembly: Assembly) -> None:
    found = the(assembly.template(pattern), ALARM, f"{POOL_PREFIX[pool.role]}AlarmsLatency")
    assert found["Threshold"] == pool.marks.ttft_ms


@each_pool
@pytest.mark.parametrize("kind", ["BelowDesired", "Unregistered"])
def test_a_pool_gets_the_time_of_a_boot_before_it_counts_as_short(
    kind: str, pattern: str, pool: Any, assembly: Assembly
) -> None:
    found = the(assembly.template(pattern), ALARM, f"{POOL_PREFIX[pool.role]}Alarms{kind}")
    assert found["EvaluationPeriods"] * 60 > pool.scaling.launch_hook_seconds
    assert found["DatapointsToAlarm"] == found["EvaluationPeriods"]


@each_pool
def test_instances_in_service_are_compared_with_the_workers_that_any_gateway_task_sees(
    pattern: str, pool: Any, assembly: Assembly
) -> None:
    found = the(assembly.template(pattern), ALARM, f"{POOL_PREFIX[pool.role]}AlarmsUnregistered")
    assert (found["Threshold"], found["ComparisonOperator"]) == (0, "GreaterThanThreshold")
    assert found["TreatMissingData"] == "notBreaching", "a fleet without gateway and workers has no such metric"
    assert returned(found) == "instances - workers"
    assert {id: (stat["Metric"]["MetricName"], stat["Stat"]) for id, stat in stats_of(found).items()} == {
        "instances": ("GroupInServiceInstances", "Average"),
        "workers": ("Workers", "Maximum"),
    }
    assert stats_of(found)["workers"]["Metric"]["Dimensions"] == [
        {"Name": "Pattern", "Value": pattern},
        {"Name": "Pool", "Value": pool.role},
    ]


def test_refusals_ring_by_their_share_when_there_are_enough_requests(pattern: str, template: Template) -> None:
    found = the(template, ALARM, "GatewayAlarmsRefusals")
    assert (found["Threshold"], found["DatapointsToAlarm"], found["EvaluationPeriods"]) == (5, 10, 15)
    share = "IF(within >= 20, 100 * (FILL(refused, 0) - FILL(over_limit, 0)) / within, 0)"
    assert returned(found) == share
    assert "asked - FILL(over_limit, 0)" in [metric.get("Expression") for metric in found["Metrics"]]
    fleet, limit = {"Name": "Pattern", "Value": pattern}, {"Name": "Reason", "Value": "rate_limit_exceeded"}
    assert {
        id: (stat["Metric"]["MetricName"], stat["Stat"], stat["Metric"]["Dimensions"])
        for id, stat in stats_of(found).items()
    } == {
        "asked": ("Requests", "Sum", [fleet]),
        "refused": ("Refused", "Sum", [fleet]),
        "over_limit": ("Refused", "Sum", [fleet, limit]),
    }


def returned(alarm: dict[str, Any]) -> str:
    """The expression that an alarm on metric math looks at."""
    (expression,) = [metric["Expression"] for metric in alarm["Metrics"] if metric.get("ReturnData") is not False]
    return str(expression)


def stats_of(alarm: dict[str, Any]) -> dict[str, Any]:
    """Its metrics, by their id in the expression."""
    return {metric["Id"]: metric["MetricStat"] for metric in alarm["Metrics"] if "MetricStat" in metric}


def test_the_topic_is_encrypted_and_takes_only_this_accounts_alarms_and_budgets(template: Template) -> None:
    assert "KmsMasterKeyId" in the(template, "AWS::SNS::Topic")
    statements = the(template, "AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    allowed = [statement for statement in statements if statement["Effect"] == "Allow"]
    assert {statement["Principal"]["Service"] for statement in allowed} == {
        "cloudwatch.amazonaws.com",
        "budgets.amazonaws.com",
    }
    assert all("AWS::AccountId" in json.dumps(statement["Condition"]) for statement in allowed)
    assert any(statement["Effect"] == "Deny" for statement in statements), "plain HTTP is refused"


def test_the_budget_is_the_plans_and_counts_what_carries_the_patterns_tag(pattern: str, template: Template) -> None:
    properties = the(template, "AWS::Budgets::Budget")
    budget = properties["Budget"]
    assert budget["BudgetLimit"] == {"Amount": plan_fleet(pattern).deployment.budget_usd_per_month, "Unit": "USD"}
    assert budget["CostFilters"] == {"TagKeyValue": [f"user:llm-fleet:pattern${pattern}"]}
    assert len(properties["NotificationsWithSubscribers"]) == 3


def test_everything_that_can_carry_tags_carries_the_patterns(pattern: str, template: Template) -> None:
    for logical_id in [*of_type(template, "AWS::SQS::Queue"), *of_type(template, "AWS::AutoScaling::AutoScalingGroup")]:
        tags = template["Resources"][logical_id]["Properties"]["Tags"]
        assert any((tag["Key"], tag["Value"]) == ("llm-fleet:pattern", pattern) for tag in tags), logical_id


def test_no_tag_changes_with_the_plan(pattern: str, template: Template) -> None:
    """A fingerprint in a tag would touch every resource at each change; it is an output instead."""
    fingerprint = plan_fleet(pattern).fingerprint()
    assert template["Outputs"]["PlanFingerprint"]["Value"] == fingerprint
    assert fingerprint not in json.dumps(template["Resources"])


def test_the_dashboard_draws_every_pool_with_its_marks(pattern: str, template: Template) -> None:
    body = json.dumps(the(template, "AWS::CloudWatch::Dashboard")["DashboardBody"])
    for pool in plan_fleet(pattern).pools:
        assert f"{pool.role}: backlog per ordered unit" in body
        assert f"{pool.role}: ms to first token" in body
    assert body.count("GroupInServiceInstances") == body.count("Workers\\") == len(plan_fleet(pattern).pools)
    assert f'Pattern=\\\\\\"{pattern}' in body, "refusals by reason are searched by the pattern's name"
