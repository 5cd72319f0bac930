"""When a pool grows and shrinks: one metric, backlog per capacity unit, and what its marks do to the group."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from llm_fleet.planning.plan import Scaling, Schedule
from llm_fleet_constructs.interfaces import as_alarm_action
from llm_fleet_constructs.metrics import PoolMetrics, target_tracking_queries

RUNBOOK = "docs/runbooks/scaling.md"


@dataclass(frozen=True)
class PoolScalingProps:
    """Of PoolScaling."""

    group: autoscaling.AutoScalingGroup
    """The group to scale; its warm-up must be zero, its group metrics on."""
    metrics: PoolMetrics
    """Of the same pool."""
    rules: Scaling
    """The plan's numbers, all in capacity units."""


class PoolScaling(Construct):
    """The article's scaling rules as policies.

    Smallest use:

        PoolScaling(self, "Scaling", PoolScalingProps(group=group, metrics=metrics, rules=pool_plan.scaling))

    - Track: target tracking at the target backlog; only outwards.
    - StepOut: more units at once the further the backlog passes its mark.
    - StepIn: fewer units after a quarter of an hour of spare capacity, in one alarm that holds every condition:
      composite alarms cannot
      run scaling policies.
    - Wake: the first instance when work waits at zero; only where the pool may be at zero, and only behind the
      gateway, which wakes it
      at once (SQS metrics of a sleeping queue may come 15 minutes late).
    - Schedules: minimum and maximum by the hour, in an IANA time zone.
    """

    def __init__(self, scope: Construct, id: str, props: PoolScalingProps) -> None:
        super().__init__(scope, id)
        self._group, self._metrics, self._rules = props.group, props.metrics, props.rules
        self.alarms = [self._step_out(), self._step_in()]
        self._track()
        if self._rules.min_units == 0:
            self.alarms.append(self._wake())
        for schedule in self._rules.schedules:
            self._follow(schedule)

    def _track(self) -> None:
        """Target tracking by L1: the L2 policy takes no metric math."""
        autoscaling.CfnScalingPolicy(
            self,
            "Track",
            auto_scaling_group_name=self._group.auto_scaling_group_name,
            policy_type="TargetTrackingScaling",
            target_tracking_configuration=autoscaling.CfnScalingPolicy.TargetTrackingConfigurationProperty(
                target_value=self._rules.target_backlog_per_unit,
                disable_scale_in=True,
                customized_metric_specification=autoscaling.CfnScalingPolicy.CustomizedMetricSpecificationProperty(
                    metrics=target_tracking_queries(self._metrics.backlog_per_ordered_unit())
                ),
            ),
        )

    def _step_out(self) -> cloudwatch.Alarm:
        steps = sorted(self._rules.steps_out, key=lambda step: step.above_backlog_per_unit)
        mark = steps[0].above_backlog_per_unit
        policy = self._step_policy("StepOut")
        upper_marks = [step.above_backlog_per_unit - mark for step in steps[1:]]
        for step, upper in zip(steps, [*upper_marks, None], strict=True):
            policy.add_adjustment(
                adjustment=step.add_units, lower_bound=step.above_backlog_per_unit - mark, upper_bound=upper
            )
        # Two of three: the newest minute of a metric is often late, and filled points must not decide alone.
        return self._alarm(
            "StepOutAlarm",
            policy,
            metric=self._metrics.backlog_per_ordered_unit(),
            threshold=mark,
            comparison=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            minutes=3,
            breaching=2,
            happened=f"Over {mark} requests wait per ordered unit; the group adds {steps[0].add_units} units or more.",
        )

    def _step_in(self) -> cloudwatch.Alarm:
        rule = self._rules.step_in
        policy = self._step_policy("StepIn")
        policy.add_adjustment(adjustment=-rule.remove_units, lower_bound=0)
        return self._alarm(
            "StepInAlarm",
            policy,
            metric=self._metrics.spare_after_scale_in(rule),
            threshold=1,
            comparison=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            minutes=rule.minutes,
            breaching=rule.minutes,
            happened=f"{rule.minutes} minutes of capacity to spare; the group takes {rule.remove_units} units away.",
        )

    def _wake(self) -> cloudwatch.Alarm:
        policy = self._step_policy("Wake")
        policy.add_adjustment(adjustment=self._rules.units_per_instance, lower_bound=0)
        return self._alarm(
            "WakeAlarm",
            policy,
            metric=self._metrics.waiting_at_zero(),
            threshold=1,
            comparison=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            minutes=1,
            breaching=1,
            happened="Work waits while the pool is at zero; the group starts an instance.",
        )

    def _step_policy(self, id: str) -> autoscaling.StepScalingAction:
        return autoscaling.StepScalingAction(
            self,
            id,
            auto_scaling_group=self._group,
            adjustment_type=autoscaling.AdjustmentType.CHANGE_IN_CAPACITY,
            metric_aggregation_type=autoscaling.MetricAggregationType.MAXIMUM,
        )

    def _alarm(
        self,
        id: str,
        policy: autoscaling.StepScalingAction,
        *,
        metric: cloudwatch.IMetric,
        threshold: float,
        comparison: cloudwatch.ComparisonOperator,
        minutes: int,
        breaching: int,
        happened: str,
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=minutes,
            datapoints_to_alarm=breaching,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"{happened} Runbook: {RUNBOOK}",
        )
        alarm.add_alarm_action(as_alarm_action(actions.AutoScalingAction(policy)))
        return alarm

    def _follow(self, schedule: Schedule) -> None:
        self._group.scale_on_schedule(
            schedule.name,
            schedule=autoscaling.Schedule.expression(schedule.cron),
            time_zone=schedule.time_zone,
            min_capacity=schedule.min_units,
            max_capacity=schedule.max_units,
        )
