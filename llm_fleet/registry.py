"""Who is alive: workers of each pool and gateway tasks, as entries with a time to live in one DynamoDB table.

    worker    every REFRESH_S: put(its entry), and remove() when it leaves
    gateway   every REFRESH_S: alive(pool) of each pool, put(its own entry), alive(GATEWAYS)

The table deletes expired entries hours late, so whoever reads filters by the clock itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

GATEWAYS = "gateway"
"""Partition of the gateway's own tasks; pools are named by their role."""
REFRESH_S = 5
EXPIRES_AFTER_S = 20
"""Three refreshes may fail before an entry counts as gone."""

State = Literal["serving", "draining", "failing"]
"""serving takes requests; draining finishes what it has; failing generates no token at the moment."""


@dataclass(frozen=True)
class Engine:
    """One replica on an instance: its address, and how many requests it runs at once."""

    host: str
    port: int
    slots: int


@dataclass(frozen=True)
class WorkerEntry:
    """One instance of a pool, by its worker. Times are Unix seconds."""

    pool: str
    worker_id: str
    state: State
    engines: tuple[Engine, ...]
    instance_type: str
    units: int
    """Capacity units of the instance."""
    running: int
    """Requests that its engines run, batch lines among them."""
    waiting: int
    """Requests that wait inside its engines."""
    leased: int
    """Batch lines that the worker holds."""
    expires_at: float


@dataclass(frozen=True)
class GatewayEntry:
    """One gateway task. Sums over all tasks make the pool's backlog; their number divides the limits."""

    task_id: str
    expires_at: float
    waiting: dict[str, int] = field(default_factory=dict[str, int])
    """Requests held back, by pool."""
    running: dict[str, int] = field(default_factory=dict[str, int])
    """Requests under way, by pool."""


class Registry:
    """The table. Calls are synchronous and raise botocore's ClientError or BotoCoreError."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def put(self, entry: WorkerEntry | GatewayEntry) -> None:
        """Write an entry, or write it anew."""
        facts = asdict(entry)
        if isinstance(entry, GatewayEntry):
            facts |= {"pool": GATEWAYS, "worker_id": facts.pop("task_id")}
        self._client.put_item(TableName=self._table, Item={name: _to_attribute(fact) for name, fact in facts.items()})

    def remove(self, pool: str, worker_id: str) -> None:
        """Delete an entry; one that is not there is no error."""
        self._client.delete_item(TableName=self._table, Key={"pool": {"S": pool}, "worker_id": {"S": worker_id}})

    def workers(self, pool: str, now: float) -> tuple[WorkerEntry, ...]:
        """The pool's workers whose entries have not expired, by id."""
        return tuple(_worker(item) for item in self._alive(pool, now))

    def gateways(self, now: float) -> tuple[GatewayEntry, ...]:
        """The gateway tasks whose entries have not expired, by id."""
        return tuple(
            GatewayEntry(item["worker_id"], item["expires_at"], _counts(item["waiting"]), _counts(item["running"]))
            for item in self._alive(GATEWAYS, now)
        )

    def _alive(self, pool: str, now: float) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="#pool = :pool",
            ExpressionAttributeNames={"#pool": "pool"},
            ExpressionAttributeValues={":pool": {"S": pool}},
        )
        items = [
            {name: _from_attribute(value) for name, value in item.items()} for page in pages for item in page["Items"]
        ]
        return [item for item in items if item["expires_at"] > now]


def _worker(item: dict[str, Any]) -> WorkerEntry:
    engines = tuple(Engine(engine["host"], int(engine["port"]), int(engine["slots"])) for engine in item["engines"])
    counts = {name: int(item[name]) for name in ("units", "running", "waiting", "leased")}
    return WorkerEntry(
        pool=item["pool"],
        worker_id=item["worker_id"],
        state=item["state"],
        engines=engines,
        instance_type=item["instance_type"],
        expires_at=item["expires_at"],
        **counts,
    )


def _counts(found: dict[str, float]) -> dict[str, int]:
    return {name: int(count) for name, count in found.items()}


def _to_attribute(value: Any) -> Any:
    """A DynamoDB attribute of str, number, list, tuple or dict: the types that entries hold."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int | float):
        return {"N": str(Decimal(repr(value)))}
    if isinstance(value, dict):
        return {"M": {str(name): _to_attribute(each) for name, each in value.items()}}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return {"L": [_to_attribute(each) for each in value]}


def _from_attribute(attribute: Any) -> Any:
    kind, value = next(iter(attribute.items()))
    if kind == "N":
        return float(value)
    if kind == "M":
        return {name: _from_attribute(each) for name, each in value.items()}
    if kind == "L":
        return [_from_attribute(each) for each in value]
    return value
