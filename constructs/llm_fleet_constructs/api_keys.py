"""Who may use the gateway: one item for each API key, which holds the key's hash and never the key."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from llm_fleet_constructs.grants import allow, allow_key
from llm_fleet_constructs.kept_table import kept_table

PARTITION_KEY = "key_id"


@dataclass(frozen=True)
class ApiKeysProps:
    """Of ApiKeys."""

    key: kms.IKey
    """Encrypts the table."""


class ApiKeys(Construct):
    """A table of API keys by their id. Kept when the stack goes: clients hold keys for years.

    Smallest use:

        keys = ApiKeys(self, "ApiKeys", ApiKeysProps(key=key))
        keys.grant_read(gateway_role)

    Keys are made and revoked by a person with rights of their own (`llm-fleet keys`); nothing that is deployed may
    write here. They do not expire by themselves, so there is no time to live.
    """

    def __init__(self, scope: Construct, id: str, props: ApiKeysProps) -> None:
        super().__init__(scope, id)
        self.key = props.key
        self.table = kept_table(self, "Resource", props.key, partition_key=PARTITION_KEY)

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Read all keys, and one at once."""
        allow(grantee, ["dynamodb:Scan", "dynamodb:GetItem"], [self.table.table_arn], owner=self.table)
        allow_key(grantee, self.key)
