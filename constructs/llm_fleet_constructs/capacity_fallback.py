"""On-demand instances while spot is dry, since EC2 never falls back by itself."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

import llm_fleet
from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs import on_demand_fallback
from llm_fleet_constructs.acknowledgements import acknowledge
from llm_fleet_constructs.grants import allow
from llm_fleet_constructs.instance_role import GROUP_ARN_WILDCARD
from llm_fleet_constructs.interfaces import as_alarm_action, as_function, as_role, as_rule_target, service_principal
from llm_fleet_constructs.metrics import PoolMetrics
from llm_fleet_constructs.pool_scaling import RUNBOOK

LOOK_EVERY = Duration.minutes(15)
"""An alarm acts when it changes state only; what is still missing, and what can go back, is found by the clock."""
REFUSED_MINUTES = 5
"""EC2 answers within seconds: what is not even booting after five minutes was refused."""


@dataclass(frozen=True)
class OnDemandFallbackProps:
    """Of OnDemandFallback."""

    group: autoscaling.AutoScalingGroup
    """The group whose on-demand base it raises and lowers."""
    metrics: PoolMetrics
    """Of the same pool."""
    plan: PoolPlan
    """Planned base and sizes. Some of the pool must be spot."""
    key: kms.IKey
    """Encrypts the function's log."""


class OnDemandFallback(Construct):
    """A function that raises the group's on-demand base by the units that spot refuses, and gives them back later.

    Smallest use:

        OnDemandFallback(self, "Fallback", OnDemandFallbackProps(group=group, metrics=metrics, plan=plan, key=key))

    The rule is `llm_fleet.scaling.on_demand_base`. At most half of the pool's largest size is added. Two runs at once
    would compute the same base, so no concurrency is reserved: a young account has too little to reserve any of it.
    """

    def __init__(self, scope: Construct, id: str, props: OnDemandFallbackProps) -> None:
        super().__init__(scope, id)
        if props.plan.purchase.spot_percent == 0:
            raise ValueError(f"pool {props.plan.role} has no spot to fall back from")
        self._props = props
        self._function = self._make_function()
        self._allow()
        rule = events.Rule(self, "Clock", schedule=events.Schedule.rate(LOOK_EVERY))
        rule.add_target(as_rule_target(targets.LambdaFunction(as_function(self._function))))
        self.alarm = self._make_alarm()
        """Rings nobody: it invokes the function."""

    def metric_errors(self) -> cloudwatch.Metric:
        """Runs a minute that failed; a failed run is tried twice more."""
        return self._function.metric_errors(statistic="Sum", period=Duration.minutes(1))

    def _make_function(self) -> lambda_.Function:
        plan, group = self._props.plan, self._props.group
        self._log = logs.LogGroup(
            self,
            "Log",
            encryption_key=self._props.key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self._role = as_role(iam.Role(self, "Role", assumed_by=service_principal("lambda.amazonaws.com")))
        environment = {
            "GROUP_NAME": group.auto_scaling_group_name,
            "PLANNED_BASE": str(plan.purchase.on_demand_base),
            "MAX_UNITS": str(plan.scaling.max_units),
            "MAX_EXTRA_UNITS": str(-(-plan.scaling.max_units // 2)),
            "UNITS_PER_INSTANCE": str(plan.scaling.units_per_instance),
            "SPOT_PERCENT": str(plan.purchase.spot_percent),
        }
        with tempfile.TemporaryDirectory() as folder:
            _stage(Path(folder))
            function = lambda_.Function(
                self,
                "Function",
                description=f"On-demand base of pool {plan.role} while spot is dry",
                runtime=lambda_.Runtime.PYTHON_3_13,
                architecture=lambda_.Architecture.ARM_64,
                handler="handler.handler",
                code=lambda_.Code.from_asset(folder),
                environment=environment,
                role=self._role,
                log_group=self._log,
                timeout=Duration.minutes(1),
                memory_size=256,
            )
        acknowledge(function, "AwsSolutions-L1", "Python 3.13 is what the fleet's code is tested with, like its image")
        return function

    def _allow(self) -> None:
        group = self._props.group
        allow(self._role, ["logs:CreateLogStream", "logs:PutLogEvents"], [self._log.log_group_arn])
        own = ["autoscaling:UpdateAutoScalingGroup", "autoscaling:CreateOrUpdateTags"]
        allow(self._role, own, [group.auto_scaling_group_arn], owner=group, wildcard_because=GROUP_ARN_WILDCARD)
        look = ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities"]
        why = "Describing groups cannot be limited to a resource; it only reads sizes and activities"
        allow(self._role, look, ["*"], wildcard_because=why)

    def _make_alarm(self) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            "Refused",
            metric=self._props.metrics.unordered_units(),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=REFUSED_MINUTES,
            datapoints_to_alarm=REFUSED_MINUTES,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"EC2 gave pool {self._props.plan.role} fewer units than it wants for {REFUSED_MINUTES} "
            f"minutes; a function adds on-demand where spot is refused. Runbook: {RUNBOOK}",
        )
        alarm.add_alarm_action(as_alarm_action(actions.LambdaAction(as_function(self._function))))
        return alarm


def _stage(folder: Path) -> None:
    """The function's code: the handler, and of our package only the rule."""
    shutil.copy(Path(on_demand_fallback.__path__[0]) / "handler.py", folder)
    package = Path(llm_fleet.__path__[0])
    for name in ("__init__.py", "scaling/__init__.py", "scaling/on_demand_base.py"):
        target = folder / "llm_fleet" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / name, target)
