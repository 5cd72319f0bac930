"""The function that raises the group's on-demand base while spot is dry, and what starts it."""

from __future__ import annotations

from typing import cast

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from bench.bare_app.foundation import FoundationStack
from bench.bare_app.pool import KIT, MINUTE, Pool

FUNCTION_CODE = KIT / "constructs/llm_fleet_constructs/on_demand_fallback"


class Fallback(Construct):
    """On-demand in the place of spot that EC2 refuses."""

    def __init__(self, scope: Construct, foundation: FoundationStack, pool: Pool) -> None:
        super().__init__(scope, "Fallback")
        self._make_function(foundation, pool)
        function = cast(lambda_.IFunction, self.function)
        clock = events.Rule(self, "Clock", schedule=events.Schedule.rate(Duration.minutes(15)))
        clock.add_target(cast(events.IRuleTarget, targets.LambdaFunction(function)))
        alarm = cloudwatch.Alarm(
            self,
            "Refused",
            metric=cloudwatch.MathExpression(
                expression="desired - in_service - pending",
                using_metrics={"desired": pool.desired, "in_service": pool.in_service, "pending": pool.pending},
                period=MINUTE,
                label="units not ordered",
            ),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=5,
            datapoints_to_alarm=5,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description="EC2 gave pool cost_efficient fewer units than it wants for 5 minutes.",
        )
        alarm.add_alarm_action(cast(cloudwatch.IAlarmAction, actions.LambdaAction(function)))

    def _make_function(self, foundation: FoundationStack, pool: Pool) -> None:
        log = logs.LogGroup(
            self,
            "Log",
            encryption_key=foundation.key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        lambda_service = cast(iam.IPrincipal, iam.ServicePrincipal("lambda.amazonaws.com"))
        role = iam.Role(self, "Role", assumed_by=lambda_service)
        for allowed, resource in (
            (["logs:CreateLogStream", "logs:PutLogEvents"], log.log_group_arn),
            (
                ["autoscaling:UpdateAutoScalingGroup", "autoscaling:CreateOrUpdateTags"],
                pool.group.auto_scaling_group_arn,
            ),
            (["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities"], "*"),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=allowed, resources=[resource]))
        self.function = lambda_.Function(
            self,
            "Function",
            description="On-demand base of pool cost_efficient while spot is dry",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler="handler.handler",
            code=lambda_.Code.from_asset(str(FUNCTION_CODE), exclude=["**/__pycache__", "**/*.pyc"]),
            environment={
                "GROUP_NAME": pool.group.auto_scaling_group_name,
                "PLANNED_BASE": "1",
                "MAX_UNITS": "10",
                "MAX_EXTRA_UNITS": "5",
                "UNITS_PER_INSTANCE": "1",
                "SPOT_PERCENT": "70",
            },
            role=cast(iam.IRole, role),
            log_group=log,
            timeout=Duration.minutes(1),
            memory_size=256,
        )
