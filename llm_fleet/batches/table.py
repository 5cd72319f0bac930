"""Reads and conditional writes of the batch table, as its users need them. The items are listed in ledger.py."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from llm_fleet.batches.records import Item, to_attributes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

CONFLICT_TRIES = 6
"""Two writers of one item: DynamoDB refuses one of them for the moment of the other's transaction."""
CONFLICT_WAIT_S = 0.05


class ConditionFailedError(Exception):
    """The condition of a write did not hold; nothing was written."""


class Table:
    """The batch table. Safe to use from several threads. Calls raise botocore's ClientError or BotoCoreError."""

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self._client = client
        self.name = name

    def get(self, partition: str, item: str) -> Item | None:
        """An item as it stands now, or None."""
        answer = self._client.get_item(TableName=self.name, Key=key(partition, item), ConsistentRead=True)
        return answer.get("Item")

    def query(
        self,
        partition: str,
        prefix: str = "",
        *,
        after: str | None = None,
        newest_first: bool = False,
        where: dict[str, str] | None = None,
        page: int | None = None,
    ) -> Iterator[Item]:
        """Items of a partition as they stand now, in order of their sort key; `where` names attributes to match.

        `after` is a sort key with the prefix; `page` bounds what one call reads.
        """
        condition = "batch_id = :partition"
        values: dict[str, Any] = {":partition": partition}
        names: dict[str, str] = {}
        if prefix:
            condition += " AND begins_with(#item, :prefix)"
            values[":prefix"] = prefix
            names["#item"] = "item"
        options: dict[str, Any] = {}
        if where:
            options["FilterExpression"] = " AND ".join(f"#{name} = :{name}" for name in where)
            values |= {f":{name}": value for name, value in where.items()}
            names |= {f"#{name}": name for name in where}
        if names:
            options["ExpressionAttributeNames"] = names
        if page is not None:
            options["Limit"] = page
        if after is not None:
            options["ExclusiveStartKey"] = key(partition, after)
        while True:
            answer = self._client.query(
                TableName=self.name,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=to_attributes(values),
                ConsistentRead=True,
                ScanIndexForward=not newest_first,
                **options,
            )
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            options["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def update(self, partition: str, item: str, change: Change) -> Item:
        """Change one item and return it as it is then.

        Raises:
            ConditionFailedError: the condition does not hold.
        """
        for attempt in range(CONFLICT_TRIES):
            try:
                answer = self._client.update_item(
                    TableName=self.name, Key=key(partition, item), ReturnValues="ALL_NEW", **change.arguments()
                )
                return answer["Attributes"]
            except ClientError as error:
                self._after_refusal(error, attempt)
        raise AssertionError("the last refusal raises")

    def write(self, actions: Sequence[dict[str, Any]]) -> None:
        """Write all of put(), update() and delete() actions, or nothing.

        Raises:
            ConditionFailedError: a condition does not hold.
        """
        for attempt in range(CONFLICT_TRIES):
            try:
                self._client.transact_write_items(
                    TransactItems=[
                        {kind: {"TableName": self.name, **each}} for a in actions for kind, each in a.items()
                    ]  # pyright: ignore[reportArgumentType]
                )
                return
            except ClientError as error:
                self._after_refusal(error, attempt)

    def _after_refusal(self, error: ClientError, attempt: int) -> None:
        """Wait where another try may do; else raise."""
        code = error.response.get("Error", {}).get("Code")
        reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", ())}
        if code == "ConditionalCheckFailedException" or "ConditionalCheckFailed" in reasons:
            raise ConditionFailedError(str(error)) from error
        if attempt + 1 == CONFLICT_TRIES or not (
            code in ("TransactionConflictException", "TransactionInProgressException")
            or reasons & {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
        ):
            raise error
        time.sleep(CONFLICT_WAIT_S * 2**attempt)


class Change:
    """An update of an item: attributes to set (None removes), on a condition."""

    def __init__(self, sets: dict[str, Any], condition: str = "", **values: Any) -> None:
        self.sets = {name: value for name, value in sets.items() if value is not None}
        self.removes = [name for name, value in sets.items() if value is None]
        self.condition = condition
        self.values = values

    def arguments(self) -> dict[str, Any]:
        """As DynamoDB's calls take it. The condition writes names as #name and values as :name."""
        expression = ""
        if self.sets:
            expression += "SET " + ", ".join(f"#{name} = :set_{name}" for name in self.sets)
        if self.removes:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in self.removes)
        values = to_attributes({**{f"set_{name}": value for name, value in self.sets.items()}, **self.values})
        used = {word.strip("(),") for word in self.condition.replace("(", " ").split() if word.startswith("#")}
        names = {f"#{name}": name for name in (*self.sets, *self.removes, *(word[1:] for word in used))}
        arguments: dict[str, Any] = {"UpdateExpression": expression.strip(), "ExpressionAttributeNames": names}
        if values:
            arguments["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
        if self.condition:
            arguments["ConditionExpression"] = self.condition
        return arguments


def key(partition: str, item: str) -> Item:
    """The primary key of an item."""
    return {"batch_id": {"S": partition}, "item": {"S": item}}


def put(partition: str, item: str, attributes: Item, *, only_new: bool = False) -> dict[str, Any]:
    """Part of a write: an item, in place of one that is there unless `only_new` forbids that."""
    condition = {"ConditionExpression": "attribute_not_exists(batch_id)"} if only_new else {}
    return {"Put": {"Item": {**attributes, **key(partition, item)}, **condition}}


def update(partition: str, item: str, change: Change) -> dict[str, Any]:
    """Part of a write: a change of an item."""
    return {"Update": {"Key": key(partition, item), **change.arguments()}}


def delete(partition: str, item: str, condition: str = "", **values: Any) -> dict[str, Any]:
    """Part of a write: an item goes."""
    options: dict[str, Any] = {}
    if condition:
        options["ConditionExpression"] = condition
    if values:
        options["ExpressionAttributeValues"] = {f":{n}": value for n, value in to_attributes(values).items()}
    return {"Delete": {"Key": key(partition, item), **options}}
