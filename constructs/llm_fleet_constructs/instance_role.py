"""What an instance of a pool may do: run its engine, do its pool's work, say how it fares. Nothing of EC2, nothing
of another pool.
"""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from llm_fleet_constructs.grants import accept_wildcards, allow, allow_pull
from llm_fleet_constructs.interfaces import as_role, service_principal
from llm_fleet_constructs.metrics import NAMESPACE

METRICS_WILDCARD = "PutMetricData cannot be limited to a resource; it is limited to the fleet's own namespace"
GROUP_ARN_WILDCARD = "A group's ARN holds an id that only EC2 knows; the group is named in full after it"


@dataclass(frozen=True)
class InstanceRoleProps:
    """Of InstanceRole."""

    log_group: logs.LogGroup
    """Where the journal goes."""
    engine_image: str
    """Image URI. From a registry of an account (ECR) it needs leave to pull."""
    token_secret_name: str | None = None
    """Secret with the Hub token of a gated model. Default: none, no secret may be read."""


class InstanceRole(Construct):
    """Role of a pool's instances. What belongs to other constructs comes by their grants.

    Smallest use:

        role = InstanceRole(self, "Role", InstanceRoleProps(log_group=logs, engine_image="vllm/vllm-openai:v0.33.0"))
        work.grant_consume(role.role)
        role.grant_own_hooks(group)
    """

    def __init__(self, scope: Construct, id: str, props: InstanceRoleProps) -> None:
        super().__init__(scope, id)
        self.role = as_role(iam.Role(self, "Resource", assumed_by=service_principal("ec2.amazonaws.com")))
        self._allow_session_manager()
        self._allow_telemetry(props.log_group)
        allow_pull(self.role, props.engine_image)
        if props.token_secret_name:
            secretsmanager.Secret.from_secret_name_v2(self, "HubToken", props.token_secret_name).grant_read(self.role)

    def grant_own_hooks(self, group: autoscaling.AutoScalingGroup) -> None:
        """Complete and keep alive the hooks of this group, and mark its instances unhealthy.

        A policy of its own: it names the group, which can only exist after the role.
        """
        actions = ["CompleteLifecycleAction", "RecordLifecycleActionHeartbeat", "SetInstanceHealth"]
        statement = iam.PolicyStatement(
            actions=[f"autoscaling:{action}" for action in actions], resources=[group.auto_scaling_group_arn]
        )
        iam.Policy(self, "OwnHooks", statements=[statement]).attach_to_role(self.role)
        accept_wildcards(self, [group.auto_scaling_group_arn], group, GROUP_ARN_WILDCARD)

    def _allow_session_manager(self) -> None:
        """What the SSM agent needs for shell sessions; the managed policy would add every parameter of the account."""
        allow(
            self.role,
            [
                "ssm:UpdateInstanceInformation",
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ],
            ["*"],
            wildcard_because="The agent's control channel: none of these actions can be limited to a resource",
        )

    def _allow_telemetry(self, log_group: logs.LogGroup) -> None:
        own_metrics = {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}
        allow(
            self.role,
            ["cloudwatch:PutMetricData"],
            ["*"],
            conditions=own_metrics,
            wildcard_because=METRICS_WILDCARD,
        )
        allow(
            self.role,
            ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            [log_group.log_group_arn],
        )
