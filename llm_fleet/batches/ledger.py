"""Items of the batch table, and what a worker asks of a batch.

    partition batch_id     sort key item
    batch_...              batch                      the batch itself
    batch_...              lines#00042                which of lines 4200 to 4299 have a result, and how they ended
    file-...               file                       a file that a user sent or a batch wrote
    key#<key id>           batch#<created>#<id>       a key's batches, in order of time
    key#<key id>           file#<created>#<id>        a key's files, in order of time
    open                   <batch id>                 batches that somebody has to work on

Counts and results of a line meet in one item, so one conditional write counts a line once, without transactions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

LINES_PER_ITEM = 100
"""A set of 100 line numbers keeps the item under 1 kB, one write unit."""
BATCH_ITEM = "batch"
FILE_ITEM = "file"
OPEN_PARTITION = "open"
LINES_PREFIX = "lines#"
KEEP_S = 30 * 86_400
"""As long as the buckets keep files and results."""

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Outcome = Literal["completed", "failed"]
WORTH_RUNNING: frozenset[BatchStatus] = frozenset({"validating", "in_progress"})
"""Statuses in which a line's answer is still wanted."""


def lines_item(line: int) -> str:
    """Sort key of the item that holds a line."""
    return f"{LINES_PREFIX}{line // LINES_PER_ITEM:05d}"


class BatchLedger:
    """What workers ask and write. Raises botocore's ClientError or BotoCoreError."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def status(self, batch_id: str) -> BatchStatus | None:
        """The batch's status now; None where there is no such batch."""
        answer = self._client.get_item(
            TableName=self._table,
            Key={"batch_id": {"S": batch_id}, "item": {"S": BATCH_ITEM}},
            ProjectionExpression="#status",
            ExpressionAttributeNames={"#status": "status"},
            ConsistentRead=True,
        )
        return answer["Item"]["status"]["S"] if "Item" in answer else None  # pyright: ignore[reportReturnType, reportTypedDictNotRequiredAccess]

    def count(self, batch_id: str, line: int, outcome: Outcome, now: float) -> bool:
        """Count a line as ended. False where it was counted before: then nothing changed."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"batch_id": {"S": batch_id}, "item": {"S": lines_item(line)}},
                UpdateExpression="ADD ended :lines, #outcome :one SET expires_at = :expires_at",
                ConditionExpression="attribute_not_exists(ended) OR NOT contains(ended, :line)",
                ExpressionAttributeNames={"#outcome": outcome},
                ExpressionAttributeValues={
                    ":lines": {"NS": [str(line)]},
                    ":line": {"N": str(line)},
                    ":one": {"N": "1"},
                    ":expires_at": {"N": str(int(now) + KEEP_S)},
                },
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            raise
        return True
