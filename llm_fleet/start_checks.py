"""Asks for what a service needs, once, before it says that it serves: better a named lack now than a failure later.

Each check is a call that the service makes anyway, on something that does not exist: it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.batches.ledger import BatchLedger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client

NOTHING = "llm-fleet-start-check"
"""Name of a batch, a worker and an object that do not exist."""
EXPECTED = ("NoSuchKey", "404", "ConditionalCheckFailedException")
"""Refusals that prove that the thing is there and may be used."""


class NotThereError(Exception):
    """Something is missing or forbidden; one line for each."""


@dataclass(frozen=True)
class Needed:
    """One thing, the action that it is needed for, and a call that shows whether it is there."""

    name: str
    action: str
    ask: Callable[[], object]


def require(service: str, needed: Iterable[Needed]) -> None:
    """Ask for everything.

    Raises:
        NotThereError: something is not there, each named with the action that lacks.
    """
    problems = [problem for each in needed if (problem := _problem(service, each))]
    if problems:
        raise NotThereError("\n".join(problems))


def batch_store(s3: S3Client, dynamodb: DynamoDBClient, table: str, buckets: Iterable[str]) -> list[Needed]:
    """What both services read: the batch table, and objects of these buckets."""
    found = [Needed(f"batch table {table}", "dynamodb:GetItem", lambda: BatchLedger(dynamodb, table).status(NOTHING))]
    for bucket in buckets:
        # Without ListBucket S3 hides a missing object behind AccessDenied.
        ask: Callable[[], object] = lambda bucket=bucket: s3.get_object(Bucket=bucket, Key=NOTHING)  # noqa: E731
        found.append(Needed(f"bucket {bucket}", "s3:GetObject and s3:ListBucket", ask))
    return found


def _problem(service: str, needed: Needed) -> str:
    try:
        needed.ask()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in EXPECTED:
            return ""
        return f"{needed.name}: the {service} needs {needed.action}: {error}"
    except BotoCoreError as error:
        return f"{needed.name}: no answer to {needed.action}: {error}"
    return ""
