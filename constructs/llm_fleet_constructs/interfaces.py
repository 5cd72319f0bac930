"""Classes of the CDK as the interfaces they are.

Its Python stubs name some parameters differently in a class and in its interface (`alias` and `alias_name`), so that a
strict type checker denies what jsii accepts. These casts are the only place that has to know.
"""

from __future__ import annotations

from typing import cast

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns


def as_key(key: kms.Key) -> kms.IKey:
    """A key."""
    return cast(kms.IKey, key)


def as_topic(topic: sns.Topic) -> sns.ITopic:
    """A topic."""
    return cast(sns.ITopic, topic)


def as_role(role: iam.Role) -> iam.IRole:
    """A role."""
    return cast(iam.IRole, role)


def service_principal(name: str) -> iam.IPrincipal:
    """A service of AWS, by its full name."""
    return cast(iam.IPrincipal, iam.ServicePrincipal(name))


def as_function(function: lambda_.Function) -> lambda_.IFunction:
    """A Lambda function."""
    return cast(lambda_.IFunction, function)


def as_rule_target(target: targets.LambdaFunction) -> events.IRuleTarget:
    """What an event or the clock starts."""
    return cast(events.IRuleTarget, target)


def as_alarm_action(
    action: actions.SnsAction | actions.AutoScalingAction | actions.LambdaAction,
) -> cloudwatch.IAlarmAction:
    """What an alarm does."""
    return cast(cloudwatch.IAlarmAction, action)
