"""The bucket that receives access logs."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

from llm_fleet_constructs.acknowledgements import acknowledge


@dataclass(frozen=True)
class AccessLogsProps:
    """Of AccessLogs."""

    keep_days: int = 90
    """Default 90: a quarter, long enough to look back at an incident."""


class AccessLogs(Construct):
    """Access logs of buckets and load balancer. Kept when the stack goes.

    Smallest use:

        logs = AccessLogs(self, "AccessLogs", AccessLogsProps())
        Bucket(self, "Files", server_access_logs_bucket=logs.bucket, server_access_logs_prefix="files/")
    """

    def __init__(self, scope: Construct, id: str, props: AccessLogsProps) -> None:
        super().__init__(scope, id)
        self.bucket = s3.Bucket(
            self,
            "Resource",
            # A load balancer cannot write to a bucket under a customer-managed key.
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            removal_policy=RemovalPolicy.RETAIN,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="Expire",
                    expiration=Duration.days(props.keep_days),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
        )
        reason = "It is the bucket that receives access logs; logging its own deliveries would feed itself"
        acknowledge(self.bucket, "AwsSolutions-S1", reason)
