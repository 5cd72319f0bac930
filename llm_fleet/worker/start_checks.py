"""What the worker needs before it says that it serves.

Only to look at the dead-letter queue takes a right that it needs for nothing else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm_fleet.start_checks import NOTHING, Needed, batch_store, require
from llm_fleet.worker.leases import QueueFacts
from llm_fleet.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

DEFAULT_MAX_RECEIVES = 5
"""For a queue without a dead-letter queue: a line must not come for ever."""


def check(settings: WorkerSettings, sqs: SQSClient, s3: S3Client, dynamodb: DynamoDBClient) -> QueueFacts:
    """Everything is there. Returns what the queue says of itself.

    Raises:
        NotThereError: something is not, each named with the action that lacks.
    """
    attributes: dict[str, str] = {}

    def queue() -> None:
        names: Any = ["VisibilityTimeout", "RedrivePolicy"]
        answer = sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=names)
        attributes.update({str(name): value for name, value in answer.get("Attributes", {}).items()})

    def dead_letters() -> object:
        url = settings.dead_letter_queue_url
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])

    def registry() -> None:
        dynamodb.put_item(
            TableName=settings.registry_table,
            Item={"pool": {"S": settings.pool}, "worker_id": {"S": NOTHING}},
            ConditionExpression="attribute_exists(worker_id)",
        )

    buckets = (settings.batch_files_bucket, settings.batch_results_bucket)
    needed = (
        Needed(f"queue {settings.queue_url}", "sqs:GetQueueAttributes", queue),
        Needed(f"dead-letter queue {settings.dead_letter_queue_url}", "sqs:GetQueueAttributes", dead_letters),
        Needed(f"registry table {settings.registry_table}", "dynamodb:PutItem", registry),
        *batch_store(s3, dynamodb, settings.batch_table, buckets),
    )
    require("worker", needed)
    policy = json.loads(attributes.get("RedrivePolicy", "{}"))
    return QueueFacts(
        int(attributes.get("VisibilityTimeout", "30")), int(policy.get("maxReceiveCount", DEFAULT_MAX_RECEIVES))
    )
