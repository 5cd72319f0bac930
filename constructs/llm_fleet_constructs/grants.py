"""Statements on a principal's own policy. Without ids, so that the CDK merges what belongs together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct, IConstruct

from llm_fleet_constructs.acknowledgements import acknowledge, printed

_ACCOUNT_REGISTRY = re.compile(
    r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<repository>[^:@]+)"
)


def allow(
    grantee: iam.IGrantable,
    actions: Sequence[str],
    resources: Sequence[str],
    *,
    owner: IConstruct | None = None,
    wildcard_because: str = "",
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Let `grantee` do `actions` on `resources`, which are of the stack of `owner` (default: the grantee's).

    The grant stands on the principal, never on the resource: a kept thing must not change when what uses it comes and
    goes.

    Raises:
        ValueError: a resource holds a wildcard and `wildcard_because` gives no reason for it.
    """
    principal = grantee.grant_principal
    principal.add_to_principal_policy(
        iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions)
    )
    if isinstance(principal, Construct):
        accept_wildcards(principal, resources, owner, wildcard_because)


def accept_wildcards(holder: IConstruct, resources: Sequence[str], owner: IConstruct | None, because: str) -> None:
    """Acknowledge each of `resources` that holds a wildcard, with the reason, on the construct that holds the policy.

    Raises:
        ValueError: there is one, and no reason.
    """
    reader = Stack.of(holder)
    for arn in resources:
        if "*" not in arn:
            continue
        text = printed(arn, owner=Stack.of(owner) if owner else reader, reader=reader)
        if not because:
            raise ValueError(f"a grant on {text} needs wildcard_because: why no narrower resource will do")
        acknowledge(holder, f"AwsSolutions-IAM5[Resource::{text}]", because)


def allow_key(grantee: iam.IGrantable, key: kms.IKey) -> None:
    """Let `grantee` read and write what `key` encrypts, as far as its other grants reach."""
    allow(grantee, ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], [key.key_arn], owner=key)


def allow_pull(grantee: iam.IGrantable, image: str | ecr.IRepository) -> None:
    """Let `grantee` pull an image, given by its URI or its repository. An image that does not lie in an account's
    registry (ECR) needs no leave.
    """
    arn = _repository_arn(grantee, image) if isinstance(image, str) else image.repository_arn
    if arn is None:
        return
    why = "The registry's password is one for the account; what may be pulled is limited to one repository"
    allow(grantee, ["ecr:GetAuthorizationToken"], ["*"], wildcard_because=why)
    allow(grantee, ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], [arn])


def _repository_arn(grantee: iam.IGrantable, uri: str) -> str | None:
    found = _ACCOUNT_REGISTRY.match(uri)
    if found is None:
        return None
    partition = Stack.of(grantee).partition if isinstance(grantee, Construct) else "aws"
    return f"arn:{partition}:ecr:{found['region']}:{found['account']}:repository/{found['repository']}"
