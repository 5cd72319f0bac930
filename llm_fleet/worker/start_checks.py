"""Asks for everything that the worker needs, once, before it says that it serves.

Each check is a call that the worker makes anyway, or one that changes nothing. Only to look at the dead-letter queue
takes a right that it needs for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.batches.ledger import BatchLedger
from llm_fleet.worker.leases import QueueFacts
from llm_fleet.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

NOTHING = "llm-fleet-start-check"
"""Name of a batch, a worker and an object that do not exist."""
DEFAULT_MAX_RECEIVES = 5
"""For a queue without a dead-letter queue: a line must not come for ever."""
EXPECTED = ("NoSuchKey", "404", "ConditionalCheckFailedException")
"""Refusals that prove that the thing is there and may be used."""


class NotThereError(Exception):
    """Something is missing or forbidden; one line for each."""


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

    def registry() -> None:
        dynamodb.put_item(
            TableName=settings.registry_table,
            Item={"pool": {"S": settings.pool}, "worker_id": {"S": NOTHING}},
            ConditionExpression="attribute_exists(worker_id)",
        )

    checks: tuple[tuple[str, str, Callable[[], object]], ...] = (
        (f"queue {settings.queue_url}", "sqs:GetQueueAttributes", queue),
        (
            f"dead-letter queue {settings.dead_letter_queue_url}",
            "sqs:GetQueueAttributes",
            lambda: sqs.get_queue_attributes(
                QueueUrl=settings.dead_letter_queue_url, AttributeNames=["VisibilityTimeout"]
            ),
        ),
        (f"registry table {settings.registry_table}", "dynamodb:PutItem", registry),
        (
            f"batch table {settings.batch_table}",
            "dynamodb:GetItem",
            lambda: BatchLedger(dynamodb, settings.batch_table).status(NOTHING),
        ),
        *(
            (
                f"bucket {bucket}",
                "s3:GetObject and s3:ListBucket",  # without ListBucket S3 hides a missing object behind AccessDenied
                lambda bucket=bucket: s3.get_object(Bucket=bucket, Key=NOTHING),
            )
            for bucket in (settings.batch_files_bucket, settings.batch_results_bucket)
        ),
    )
    problems = [problem for name, action, ask in checks if (problem := _problem(name, action, ask))]
    if problems:
        raise NotThereError("\n".join(problems))
    policy = json.loads(attributes.get("RedrivePolicy", "{}"))
    return QueueFacts(
        int(attributes.get("VisibilityTimeout", "30")), int(policy.get("maxReceiveCount", DEFAULT_MAX_RECEIVES))
    )


def _problem(name: str, action: str, ask: Callable[[], object]) -> str:
    try:
        ask()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in EXPECTED:
            return ""
        return f"{name}: the worker needs {action}: {error}"
    except BotoCoreError as error:
        return f"{name}: no answer to {action}: {error}"
    return ""
