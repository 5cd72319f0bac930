"""The bucket that caches model weights and compiled artefacts, so that only the first instance of all downloads or
compiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from llm_fleet_constructs.grants import allow, allow_key


@dataclass(frozen=True)
class WeightsCacheProps:
    """Of WeightsCache."""

    key: kms.IKey
    """Encrypts the objects."""
    access_logs: s3.Bucket
    """Receives the access logs."""


class WeightsCache(Construct):
    """Weights by repository and commit, compiled artefacts by content key. Layout and locking are in
    `on_instance/cache.py`.

    Smallest use:

        cache = WeightsCache(self, "Weights", WeightsCacheProps(key=key, access_logs=logs.bucket))
        cache.grant_fill(role, "weights/Qwen/Qwen2.5-7B-Instruct")

    Not versioned: an object never changes under its name (the name holds the commit), and what is lost can be fetched
    again.
    """

    def __init__(self, scope: Construct, id: str, props: WeightsCacheProps) -> None:
        super().__init__(scope, id)
        self.key = props.key
        self.bucket = s3.Bucket(
            self,
            "Resource",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=props.key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            removal_policy=RemovalPolicy.RETAIN,
            server_access_logs_bucket=props.access_logs,
            server_access_logs_prefix="weights/",
            lifecycle_rules=[
                s3.LifecycleRule(id="AbortIncompleteUploads", abort_incomplete_multipart_upload_after=Duration.days(1))
            ],
        )

    def grant_fill(self, grantee: iam.IGrantable, *prefixes: str) -> None:
        """Let `grantee` read and write below these prefixes, and nothing else: the first instance fills, the others
        read.

        Nobody may delete: a filled entry is only ever read.
        """
        objects = [self.bucket.arn_for_objects(f"{prefix}/*") for prefix in prefixes]
        allow(
            grantee,
            ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
            objects,
            owner=self.bucket,
            wildcard_because="File names are the model's or the compiler's; the prefix is one model or one compilation",
        )
        listed = {"StringLike": {"s3:prefix": [f"{prefix}/*" for prefix in prefixes]}}
        allow(grantee, ["s3:ListBucket"], [self.bucket.bucket_arn], owner=self.bucket, conditions=listed)
        allow_key(grantee, self.key)
