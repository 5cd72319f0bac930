"""Where alarms and the budget report to."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from llm_fleet_constructs.interfaces import as_topic, service_principal


@dataclass(frozen=True)
class AlarmTopicProps:
    """Of AlarmTopic."""

    key: kms.IKey
    """Encrypts the messages; must let in CloudWatch and Budgets, as DataKey does."""
    email: str | None = None
    """Who reads them; the address must confirm once. Default: nobody, other subscribers can be added to the topic."""


class AlarmTopic(Construct):
    """An encrypted topic that only this account's alarms and budgets may publish to, over TLS.

    Smallest use:

        topic = AlarmTopic(self, "Alarms", AlarmTopicProps(key=key, email="oncall@example.com"))
        alarm.add_alarm_action(SnsAction(topic.topic))
    """

    def __init__(self, scope: Construct, id: str, props: AlarmTopicProps) -> None:
        super().__init__(scope, id)
        self._topic = sns.Topic(self, "Resource", master_key=props.key, enforce_ssl=True)
        self.topic = as_topic(self._topic)
        """For alarms and budgets."""
        stack = Stack.of(self)
        alarms = f"arn:{stack.partition}:cloudwatch:{stack.region}:{stack.account}:alarm:*"
        self._let_publish("cloudwatch.amazonaws.com", {"ArnLike": {"aws:SourceArn": alarms}})
        self._let_publish("budgets.amazonaws.com", {"StringEquals": {"aws:SourceAccount": stack.account}})
        if props.email:
            sns.Subscription(
                self, "Email", topic=self.topic, protocol=sns.SubscriptionProtocol.EMAIL, endpoint=props.email
            )

    def _let_publish(self, service: str, conditions: dict[str, dict[str, str]]) -> None:
        self._topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[service_principal(service)],
                actions=["sns:Publish"],
                resources=[self._topic.topic_arn],
                conditions=conditions,
            )
        )
