"""What batches leave on disk: the files users send and fetch, the results line by line, the state of each batch."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from llm_fleet_constructs.grants import allow, allow_key
from llm_fleet_constructs.kept_table import kept_table


@dataclass(frozen=True)
class BatchStoreProps:
    """Of BatchStore."""

    key: kms.IKey
    """Encrypts files, results and state."""
    access_logs: s3.Bucket
    """Receives the access logs."""
    keep_days: int = 30
    """Default 30: a user has a month to fetch the output; inputs and results go with it."""


class BatchStore(Construct):
    """Batch files, results and state. All kept when the stack goes.

    Smallest use:

        store = BatchStore(self, "Batches", BatchStoreProps(key=key, access_logs=logs.bucket))
        store.grant_serve(gateway_role)
        store.grant_work(instance_role)

    Files are versioned, since a user's overwrite must not lose the input of a running batch. Results are written once
    by a conditional put, so versions would only double them.
    """

    def __init__(self, scope: Construct, id: str, props: BatchStoreProps) -> None:
        super().__init__(scope, id)
        self.key = props.key
        self.files = self._bucket("Files", props, versioned=True)
        self.results = self._bucket("Results", props, versioned=False)
        self.table = kept_table(
            self,
            "Table",
            props.key,
            partition_key="batch_id",
            sort_key="item",
            time_to_live_attribute="expires_at",
        )

    def _bucket(self, id: str, props: BatchStoreProps, *, versioned: bool) -> s3.Bucket:
        return s3.Bucket(
            self,
            id,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=props.key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            versioned=versioned,
            removal_policy=RemovalPolicy.RETAIN,
            server_access_logs_bucket=props.access_logs,
            server_access_logs_prefix=f"batch-{id.lower()}/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="Expire",
                    expiration=Duration.days(props.keep_days),
                    noncurrent_version_expiration=Duration.days(1) if versioned else None,
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
        )

    def grant_serve(self, grantee: iam.IGrantable) -> None:
        """The gateway's part: take files in, give them out, keep the state of batches, read results; write one for a
        line that ended in the dead-letter queue.
        """
        files = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        state = [
            "dynamodb:GetItem",
            "dynamodb:Query",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
        ]
        self._allow_objects(grantee, files, self.files)
        self._allow_objects(grantee, ["s3:GetObject", "s3:PutObject"], self.results)
        self._allow_state(grantee, state)

    def grant_work(self, grantee: iam.IGrantable) -> None:
        """The worker's part: read the input of a line, put its result or read the one that stands, count it."""
        self._allow_objects(grantee, ["s3:GetObject"], self.files)
        self._allow_objects(grantee, ["s3:GetObject", "s3:PutObject"], self.results)
        self._allow_state(grantee, ["dynamodb:GetItem", "dynamodb:UpdateItem"])

    def _allow_objects(self, grantee: iam.IGrantable, actions: list[str], bucket: s3.Bucket) -> None:
        why = "Objects are named after batches, which users make: this bucket holds nothing else"
        allow(grantee, actions, [bucket.arn_for_objects("*")], owner=bucket, wildcard_because=why)
        # Without it S3 answers 403 for an object that is not there, and nobody could tell the two apart.
        allow(grantee, ["s3:ListBucket"], [bucket.bucket_arn], owner=bucket)

    def _allow_state(self, grantee: iam.IGrantable, actions: list[str]) -> None:
        allow(grantee, actions, [self.table.table_arn], owner=self.table)
        allow_key(grantee, self.key)
