"""The key that encrypts what the fleet keeps."""

from __future__ import annotations

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from llm_fleet_constructs.interfaces import as_key, service_principal


class DataKey(Construct):
    """One customer-managed key for buckets, tables, queues, log groups and the alarm topic; rotated yearly, kept
    when the stack goes.

    Smallest use:

        key = DataKey(self, "Key").key

    Who may use it is said by the grants of the things it encrypts. The key itself only lets in the services that
    write on their own: CloudWatch Logs into this account's log groups, alarms and budgets into an encrypted topic
    (the topic's policy narrows these two).
    """

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        key = kms.Key(
            self,
            "Resource",
            description="Encrypts what the LLM fleet keeps: weights, batch files, results, tables, queues, logs",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.RETAIN,
        )
        stack = Stack.of(self)
        log_groups = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:*"
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="LogGroupsOfThisAccount",
                principals=[service_principal(f"logs.{stack.region}.amazonaws.com")],
                actions=["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": log_groups}},
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsAndBudgetsIntoTheTopic",
                principals=[
                    service_principal("cloudwatch.amazonaws.com"),
                    service_principal("budgets.amazonaws.com"),
                ],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
            )
        )
        self.key = as_key(key)
        """For grants and encryption."""
