"""What the gateway and its clerk need before the gateway accepts connections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.registry import Registry
from llm_fleet.start_checks import Needed, batch_store, require

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient


def check(
    settings: GatewaySettings,
    keys: KeyStore,
    registry: Registry,
    sqs: SQSClient,
    s3: S3Client,
    dynamodb: DynamoDBClient,
) -> None:
    """Everything is there; the keys are read.

    Raises:
        NotThereError: something is not, each named with the action that lacks.
    """
    buckets = (settings.batch_files_bucket, settings.batch_results_bucket)
    needed = [
        Needed(f"keys table {settings.keys_table}", "dynamodb:Scan", keys.load),
        Needed(f"registry table {settings.registry_table}", "dynamodb:Query", lambda: registry.gateways(time.time())),
        *batch_store(s3, dynamodb, settings.batch_table, buckets),
    ]
    for name, pool in settings.pools.items():
        needed.append(_queue(sqs, f"queue {pool.queue_url} of the pool {name}", pool.queue_url))
        dead = pool.dead_letter_queue_url
        needed.append(_queue(sqs, f"dead-letter queue {dead} of the pool {name}", dead))
    require("gateway", needed)


def _queue(sqs: SQSClient, name: str, url: str) -> Needed:
    def ask() -> object:
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])

    return Needed(name, "sqs:GetQueueAttributes", ask)
