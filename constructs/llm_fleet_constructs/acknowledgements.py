"""The one way to accept a finding of cdk-nag or of the CDK's own validation."""

from __future__ import annotations

from aws_cdk import Acknowledgment, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, reason: str, *rules: str) -> None:
    """Accept `rules` on `construct` and what it holds. A rule with findings needs each of them: AwsSolutions-IAM5[Resource::*]."""
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=reason) for rule in rules))
