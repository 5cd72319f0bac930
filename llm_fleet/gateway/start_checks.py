"""Asks for everything that the gateway needs, once, before it accepts connections.

Each check is a call that the gateway or its clerk makes anyway, on something that does not exist: it changes nothing
and needs no right of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.batches.ledger import BatchLedger
from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.registry import Registry

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

NOTHING = "llm-fleet-start-check"
"""Name of a batch and an object that do not exist."""
EXPECTED = ("NoSuchKey", "404")
"""Refusals that prove that the thing is there and may be used."""


class NotThereError(Exception):
    """Something is missing or forbidden; one line for each."""


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
    checks: list[tuple[str, str, Callable[[], object]]] = [
        (f"keys table {settings.keys_table}", "dynamodb:Scan", keys.load),
        (
            f"registry table {settings.registry_table}",
            "dynamodb:Query",
            lambda: registry.gateways(time.time()),
        ),
        (
            f"batch table {settings.batch_table}",
            "dynamodb:GetItem",
            lambda: BatchLedger(dynamodb, settings.batch_table).status(NOTHING),
        ),
    ]
    for bucket in (settings.batch_files_bucket, settings.batch_results_bucket):
        checks.append(
            (
                f"bucket {bucket}",
                "s3:GetObject and s3:ListBucket",  # without ListBucket S3 hides a missing object behind AccessDenied
                lambda bucket=bucket: s3.get_object(Bucket=bucket, Key=NOTHING),
            )
        )
    for name, pool in settings.pools.items():
        for kind, url in (("queue", pool.queue_url), ("dead-letter queue", pool.dead_letter_queue_url)):
            checks.append(
                (
                    f"{kind} {url} of the pool {name}",
                    "sqs:GetQueueAttributes",
                    lambda url=url: sqs.get_queue_attributes(
                        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
                    ),
                )
            )
    problems = [problem for name, action, ask in checks if (problem := _problem(name, action, ask))]
    if problems:
        raise NotThereError("\n".join(problems))


def _problem(name: str, action: str, ask: Callable[[], object]) -> str:
    try:
        ask()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in EXPECTED:
            return ""
        return f"{name}: the gateway needs {action}: {error}"
    except BotoCoreError as error:
        return f"{name}: no answer to {action}: {error}"
    return ""
