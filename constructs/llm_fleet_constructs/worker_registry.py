"""Which workers are alive: the gateway finds engines here, and treats an old entry as gone."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from llm_fleet.registry import GATEWAYS
from llm_fleet_constructs.grants import allow, allow_key

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
        self.table = dynamodb.TableV2(
            self,
            "Resource",
            partition_key=dynamodb.Attribute(name=PARTITION_KEY, type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name=SORT_KEY, type=dynamodb.AttributeType.STRING),
            time_to_live_attribute="expires_at",
            billing=dynamodb.Billing.on_demand(),
            encryption=dynamodb.TableEncryptionV2.customer_managed_key(props.key),
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=True,
            removal_policy=RemovalPolicy.RETAIN,
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
