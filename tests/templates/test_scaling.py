"""The article's scaling as policies and alarms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning.plan import PoolPlan
from tests.templates.assembly import Assembly
from tests.templates.reading import POOL_PREFIX, everything_in, of_type
from tests.templates.test_pools import each_pool

POLICY, ALARM = "AWS::AutoScaling::ScalingPolicy", "AWS::CloudWatch::Alarm"
METRICS_OF_AN_ALARM = 10
"""CloudWatch's limit on metrics in one alarm on metric math."""


def policy(assembly: Assembly, pattern: str, pool: PoolPlan, name: str) -> tuple[str, dict[str, Any]]:
    found = of_type(assembly.template(pattern), POLICY, f"{POOL_PREFIX[pool.role]}Scaling{name}")
    assert len(found) == 1
    return next(iter(found.items()))


def alarm(assembly: Assembly, pattern: str, pool: PoolPlan, name: str) -> dict[str, Any]:
    found = of_type(assembly.template(pattern), ALARM, f"{POOL_PREFIX[pool.role]}Scaling{name}Alarm")
    assert len(found) == 1
    return next(iter(found.values()))


def expressions(metrics: list[dict[str, Any]]) -> dict[str, str]:
    return {metric["Id"]: metric["Expression"] for metric in metrics if "Expression" in metric}


@each_pool
def test_target_tracking_holds_the_backlog_per_ordered_unit_and_never_scales_in(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    configuration = policy(assembly, pattern, pool, "Track")[1]["TargetTrackingConfiguration"]
    metrics = configuration["CustomizedMetricSpecification"]["Metrics"]
    assert configuration["TargetValue"] == pool.scaling.target_backlog_per_unit
    assert configuration["DisableScaleIn"] is True
    assert [metric["Id"] for metric in metrics if metric["ReturnData"]] == ["target"]
    assert expressions(metrics) == {
        "backlog": "FILL(own_backlog, visible)",
        "ordered": "FILL(in_service, REPEAT) + FILL(pending, REPEAT)",
        "target": "backlog / IF(ordered < 1, 1, ordered)",
    }


@each_pool
def test_the_backlog_is_our_own_count_and_sqs_where_ours_is_missing(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    configuration = policy(assembly, pattern, pool, "Track")[1]["TargetTrackingConfiguration"]
    stats = {
        metric["Id"]: metric["MetricStat"]
        for metric in configuration["CustomizedMetricSpecification"]["Metrics"]
        if "MetricStat" in metric
    }
    own = stats["own_backlog"]["Metric"]
    assert (own["Namespace"], own["MetricName"]) == ("LlmFleet", "Backlog")
    assert own["Dimensions"] == [{"Name": "Pattern", "Value": pattern}, {"Name": "Pool", "Value": pool.role}]
    assert stats["visible"]["Metric"]["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert stats["in_service"]["Metric"]["MetricName"] == "GroupInServiceCapacity"
    assert stats["pending"]["Metric"]["MetricName"] == "GroupPendingCapacity"
    assert {stat["Period"] for stat in stats.values()} == {60}


@each_pool
def test_steps_out_are_the_plans_and_the_last_has_no_end(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    steps = policy(assembly, pattern, pool, "StepOut")[1]["StepAdjustments"]
    mark = pool.scaling.steps_out[0].above_backlog_per_unit
    assert [(mark + step["MetricIntervalLowerBound"], step["ScalingAdjustment"]) for step in steps] == [
        (step.above_backlog_per_unit, step.add_units) for step in pool.scaling.steps_out
    ]
    assert "MetricIntervalUpperBound" not in steps[-1]
    assert alarm(assembly, pattern, pool, "StepOut")["Threshold"] == mark
    assert alarm(assembly, pattern, pool, "StepOut")["ComparisonOperator"] == "GreaterThanThreshold"


@each_pool
def test_scale_in_is_one_alarm_over_every_condition_for_as_long_as_the_plan_says(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    rule = pool.scaling.step_in
    policy_id, properties = policy(assembly, pattern, pool, "StepIn")
    found = alarm(assembly, pattern, pool, "StepIn")
    assert [step["ScalingAdjustment"] for step in properties["StepAdjustments"]] == [-rule.remove_units]
    assert (found["EvaluationPeriods"], found["DatapointsToAlarm"]) == (rule.minutes, rule.minutes)
    assert found["TreatMissingData"] == "notBreaching"
    assert found["AlarmActions"] == [{"Ref": policy_id}]
    (condition,) = [metric["Expression"] for metric in found["Metrics"] if metric["ReturnData"] is not False]
    assert f"backlog / IF(serving < 1, 1, serving) < {rule.below_backlog_per_unit}" in condition
    assert f"ttft < {rule.ttft_mark_ms:g}" in condition
    fits = f"(serving - {rule.remove_units}) * {rule.in_flight_per_unit} - FILL(own_in_flight, leased) >= 0"
    assert fits in condition
    assert "DIFF(desired)" in condition


@each_pool
def test_scaling_alarms_treat_missing_data_as_fine_and_stay_below_the_limit_of_metrics(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    found = of_type(assembly.template(pattern), ALARM, f"{POOL_PREFIX[pool.role]}Scaling")
    for properties in found.values():
        assert properties["TreatMissingData"] == "notBreaching"
        stats = [metric for metric in properties["Metrics"] if "MetricStat" in metric]
        assert len(stats) <= METRICS_OF_AN_ALARM
        assert {metric["MetricStat"]["Period"] for metric in stats} == {60}


@each_pool
def test_only_a_pool_that_may_be_at_zero_is_woken_by_an_alarm(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    found = of_type(assembly.template(pattern), POLICY, f"{POOL_PREFIX[pool.role]}ScalingWake")
    assert len(found) == (1 if pool.scaling.min_units == 0 else 0)
    for properties in found.values():
        assert properties["StepAdjustments"][0]["ScalingAdjustment"] == pool.scaling.units_per_instance


def test_some_pool_may_be_at_zero_and_some_pool_has_a_schedule(assembly: Assembly) -> None:
    text = [json.dumps(assembly.template(pattern)) for pattern in pattern_names()]
    assert any("ScalingWake" in template for template in text)
    assert any("AWS::AutoScaling::ScheduledAction" in template for template in text)


@each_pool
def test_schedules_are_the_plans_in_their_time_zone(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    found = of_type(
        assembly.template(pattern), "AWS::AutoScaling::ScheduledAction", f"{POOL_PREFIX[pool.role]}Group"
    ).values()
    assert {(item["Recurrence"], item["TimeZone"], item["MinSize"], item["MaxSize"]) for item in found} == {
        (schedule.cron, schedule.time_zone, schedule.min_units, schedule.max_units)
        for schedule in pool.scaling.schedules
    }


@pytest.mark.parametrize("pattern", pattern_names())
def test_no_composite_alarm_tries_to_scale(pattern: str, assembly: Assembly) -> None:
    """CDK lets one be written; AWS does not run scaling policies from a composite alarm."""
    for properties in of_type(assembly.template(pattern), "AWS::CloudWatch::CompositeAlarm").values():
        assert not any("ScalingPolicy" in str(value) for value in everything_in(properties.get("AlarmActions", [])))
    policies = set(of_type(assembly.template(pattern), POLICY))
    used = {
        value["Ref"]
        for properties in of_type(assembly.template(pattern), ALARM).values()
        for value in everything_in(properties)
        if isinstance(value, dict) and value.get("Ref") in policies
    }
    tracking = {id for id in policies if "ScalingTrack" in id}
    assert used == policies - tracking, "every step policy has an alarm; target tracking brings its own"
