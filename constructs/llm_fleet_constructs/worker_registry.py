"""Which workers are alive: the gateway finds engines here, and treats an old entry as gone."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from llm_fleet.registry import GATEWAYS
from llm_fleet_constructs.grants import allow, allow_key
from llm_fleet_constructs.kept_table import kept_table

PARTITION_KEY = "pool"
SORT_KEY = "worker_id"


@dataclass(frozen=True)
class WorkerRegistryProps:
    """Of WorkerRegistry."""

    key: kms.IKey
    """Encrypts the table."""


class WorkerRegistry(Construct):
    """A table of workers by pool, each entry with a time to live. Kept when the stack goes.

    Smallest use:

        registry = WorkerRegistry(self, "Workers", WorkerRegistryProps(key=key))
        registry.grant_register(instance_role, "cost_efficient")
        registry.grant_serve(gateway_role)
    """

    def __init__(self, scope: Construct, id: str, props: WorkerRegistryProps) -> None:
        super().__init__(scope, id)
        self.key = props.key
        self.table = kept_table(
            self,
            "Resource",
            props.key,
            partition_key=PARTITION_KEY,
            sort_key=SORT_KEY,
            time_to_live_attribute="expires_at",
        )

    def grant_register(self, grantee: iam.IGrantable, pool: str) -> None:
        """Write entries of this pool, and no other's: the partition key must be the pool's name."""
        self._allow_writing(grantee, pool)

    def grant_serve(self, grantee: iam.IGrantable) -> None:
        """The gateway's part: read every pool's entries, and write those of its own tasks."""
        allow(grantee, ["dynamodb:GetItem", "dynamodb:Query"], [self.table.table_arn], owner=self.table)
        self._allow_writing(grantee, GATEWAYS)

    def _allow_writing(self, grantee: iam.IGrantable, partition: str) -> None:
        write = ["dynamodb:PutItem", "dynamodb:DeleteItem"]
        own_entries = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [partition]}}
        allow(grantee, write, [self.table.table_arn], owner=self.table, conditions=own_entries)
        allow_key(grantee, self.key)
