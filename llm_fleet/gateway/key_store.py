"""API keys in their DynamoDB table: all of them in memory, read anew every REFRESH_S; and the acts on the table.

So a revoked key works for REFRESH_S at most, and a key that was just made works at once: the first request with an
unknown id looks its item up.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.gateway import keys
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.json_log import JsonLog
from llm_fleet.routing import Budget, Priority

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

REFRESH_S = 30.0
UNKNOWN_S = 10.0
"""How long an id that the table does not know is not looked up again."""
MAX_UNKNOWN = 1000
"""Unknown ids that are remembered: a flood of made-up keys must not fill the memory."""
LOOK_UPS_PER_S = 10
"""Nor the table: beyond this an unknown key waits for the next refresh of the whole table."""
RETRY_S = 5
"""Retry-After while the table does not answer."""


class KeyStore:
    """The keys of one gateway task."""

    def __init__(self, client: DynamoDBClient, table: str, log: JsonLog) -> None:
        self._client = client
        self._table = table
        self._log = log
        self._keys: Mapping[str, ApiKey] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._second = 0
        self._look_ups = 0

    def find(self, text: str) -> ApiKey | None:
        """The key that `text` is, of those in memory."""
        return keys.matching(text, self._keys)

    async def find_new(self, text: str) -> ApiKey | None:
        """The key that `text` is, after `find` knew none: one look-up in the table, unless its id was unknown just now
        or too many such look-ups were made within this second.

        Raises:
            ApiError: 503; the table did not answer, so nothing can be said about the key.
        """
        key_id = keys.id_of(text)
        if key_id is None or key_id in self._keys:
            return None
        under_way = self._under_way.get(key_id)
        if under_way is None:
            if not self._may_look_up(key_id, time.monotonic()):
                return None
            under_way = self._under_way[key_id] = asyncio.ensure_future(self._look_up(key_id))
            under_way.add_done_callback(lambda _: self._under_way.pop(key_id))
        await asyncio.shield(under_way)  # others may wait for the same look-up when this request's client leaves
        return keys.matching(text, self._keys)

    def load(self) -> None:
        """Read the whole table, now. Raises botocore's ClientError or BotoCoreError."""
        found = list_keys(self._client, self._table)
        self._keys = {key.key_id: key for key in found}

    async def run(self) -> None:
        """Read the table every REFRESH_S until cancelled. While it does not answer, the keys stay as they are."""
        while True:
            try:
                await asyncio.to_thread(self.load)
            except (ClientError, BotoCoreError) as error:
                self._log.event("keys_refresh_failed", error=str(error), keys=len(self._keys))
            await asyncio.sleep(REFRESH_S)

    async def _look_up(self, key_id: str) -> None:
        try:
            key = await asyncio.to_thread(read_key, self._client, self._table, key_id)
        except (ClientError, BotoCoreError) as error:
            self._log.event("key_look_up_failed", error=str(error))
            message = "The key could not be checked, because the table of keys does not answer. Try again."
            raise ApiError(503, message, "keys_unavailable", headers=retry_after(RETRY_S)) from error
        if key is None:
            self._remember_unknown(key_id)
        else:
            self._keys = {**self._keys, key_id: key}

    def _may_look_up(self, key_id: str, now: float) -> bool:
        if now < self._unknown.get(key_id, 0):
            return False
        if int(now) != self._second:
            self._second, self._look_ups = int(now), 0
        self._look_ups += 1
        return self._look_ups <= LOOK_UPS_PER_S

    def _remember_unknown(self, key_id: str) -> None:
        self._unknown[key_id] = time.monotonic() + UNKNOWN_S
        self._unknown.move_to_end(key_id)
        if len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)


def create_key(
    client: DynamoDBClient,
    table: str,
    name: str,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    priority: Priority | None = None,
    budget: Budget | None = None,
) -> tuple[str, ApiKey]:
    """Make a key and store it: its text, to be shown once, and what is stored. Raises botocore's errors."""
    text, key = keys.new_key(
        name,
        int(time.time()),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        priority=priority,
        budget=budget,
    )
    client.put_item(TableName=table, Item=_item(key), ConditionExpression="attribute_not_exists(key_id)")
    return text, key


def list_keys(client: DynamoDBClient, table: str) -> tuple[ApiKey, ...]:
    """All keys, oldest first. Items that are no key of ours are passed over. Raises botocore's errors."""
    pages = client.get_paginator("scan").paginate(TableName=table)
    found = [key for page in pages for item in page["Items"] if (key := _key(item)) is not None]
    return tuple(sorted(found, key=lambda key: (key.created_at, key.key_id)))


def read_key(client: DynamoDBClient, table: str, key_id: str) -> ApiKey | None:
    """One key, as it stands at this moment. Raises botocore's errors."""
    item = client.get_item(TableName=table, Key={"key_id": {"S": key_id}}, ConsistentRead=True).get("Item")
    return None if item is None else _key(item)


def revoke_key(client: DynamoDBClient, table: str, key_id: str) -> bool:
    """Delete a key; whether there was one. Gateways know within REFRESH_S. Raises botocore's errors."""
    answer = client.delete_item(TableName=table, Key={"key_id": {"S": key_id}}, ReturnValues="ALL_OLD")
    return bool(answer.get("Attributes"))


def _item(key: ApiKey) -> dict[str, Any]:
    facts = {name: getattr(key, name) for name in ApiKey.__dataclass_fields__}
    return {
        name: {"N": str(fact)} if isinstance(fact, int) else {"S": fact}
        for name, fact in facts.items()
        if fact is not None
    }


def _key(item: Mapping[str, Any]) -> ApiKey | None:
    """A key of an item, or None where someone wrote what is none. Attributes of later releases are passed over."""
    try:
        return ApiKey(
            key_id=item["key_id"]["S"],
            sha256=item["sha256"]["S"],
            name=item["name"]["S"],
            created_at=int(item["created_at"]["N"]),
            requests_per_minute=int(item["requests_per_minute"]["N"]) if "requests_per_minute" in item else None,
            tokens_per_minute=int(item["tokens_per_minute"]["N"]) if "tokens_per_minute" in item else None,
            priority=item["priority"]["S"] if "priority" in item else None,
            budget=item["budget"]["S"] if "budget" in item else None,
        )
    except (KeyError, ValueError):
        return None
