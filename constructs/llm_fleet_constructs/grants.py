"""Statements on a principal's own policy. Without ids, so that the CDK merges what belongs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms


def allow(
    grantee: iam.IGrantable,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Let `grantee` do `actions` on `resources`.

    The grant stands on the principal, never on the resource: a kept thing must not change when what uses it comes and goes.
    """
    grantee.grant_principal.add_to_principal_policy(
        iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions)
    )


def allow_key(grantee: iam.IGrantable, key: kms.IKey) -> None:
    """Let `grantee` read and write what `key` encrypts, as far as its other grants reach."""
    allow(grantee, ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], [key.key_arn])
