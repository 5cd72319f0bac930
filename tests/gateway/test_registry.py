"""The registry table: who is alive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from llm_fleet.registry import Engine, GatewayEntry, Registry, WorkerEntry
from localcloud.cloud import LocalCloud

NOW = 1_790_000_000.0
WORKER = WorkerEntry(
    pool="cost_efficient",
    worker_id="i-0123456789abcdef0",
    state="serving",
    engines=(Engine("10.0.1.7", 8000, 64), Engine("10.0.1.7", 8001, 64)),
    instance_type="g6.12xlarge",
    units=2,
    running=5,
    waiting=1,
    leased=3,
    expires_at=NOW + 20.25,
)


@pytest.fixture(scope="module")
def client(shared_cloud: LocalCloud) -> Any:
    return shared_cloud.client("dynamodb")


@pytest.fixture
def registry(client: Any, request: pytest.FixtureRequest) -> Registry:
    table = request.node.name
    client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "pool", "KeyType": "HASH"}, {"AttributeName": "worker_id", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pool", "AttributeType": "S"},
            {"AttributeName": "worker_id", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return Registry(client, table)


def test_an_entry_reads_back_as_it_was_put(registry: Registry) -> None:
    registry.put(WORKER)
    assert registry.workers("cost_efficient", NOW) == (WORKER,)


def test_an_entry_that_is_put_again_replaces_the_old_one(registry: Registry) -> None:
    registry.put(WORKER)
    draining = replace(WORKER, state="draining", engines=())
    registry.put(draining)
    assert registry.workers("cost_efficient", NOW) == (draining,)


def test_an_expired_entry_is_gone_although_the_table_still_has_it(registry: Registry) -> None:
    registry.put(WORKER)
    assert registry.workers("cost_efficient", WORKER.expires_at - 0.01) == (WORKER,)
    assert registry.workers("cost_efficient", WORKER.expires_at) == ()


def test_a_worker_that_leaves_is_gone_at_once_and_may_leave_twice(registry: Registry) -> None:
    registry.put(WORKER)
    for _ in range(2):
        registry.remove(WORKER.pool, WORKER.worker_id)
    assert registry.workers("cost_efficient", NOW) == ()


def test_pools_and_gateways_do_not_see_each_other(registry: Registry) -> None:
    gateway = GatewayEntry("task-1", NOW + 20, {"cost_efficient": 4}, {"cost_efficient": 9, "batch_processing": 0})
    registry.put(WORKER)
    registry.put(replace(WORKER, pool="batch_processing", worker_id="i-2"))
    registry.put(gateway)
    assert registry.gateways(NOW) == (gateway,)
    assert [worker.worker_id for worker in registry.workers("batch_processing", NOW)] == ["i-2"]


def test_workers_come_in_the_order_of_their_ids_however_many(registry: Registry) -> None:
    ids = [f"i-{number:03}" for number in range(120)]
    for worker_id in reversed(ids):
        registry.put(replace(WORKER, worker_id=worker_id))
    assert [worker.worker_id for worker in registry.workers("cost_efficient", NOW)] == ids


def test_a_table_that_is_missing_is_an_error_of_aws(client: Any) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        Registry(client, "nowhere").workers("cost_efficient", NOW)
