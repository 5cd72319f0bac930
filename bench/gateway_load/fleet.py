"""Our gateway with every layer on, before the upstream, and the AWS that it needs: tables, queues, buckets, a key."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm_fleet
from bench.gateway_load.proxies import Proxy, running
from bench.gateway_load.tools import MODEL
from llm_fleet import registry
from llm_fleet.gateway import settings
from llm_fleet.gateway.key_store import create_key
from localcloud.cloud import LocalCloud, free_port

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

POOL = "cost_efficient"
SLOTS = 4096
"""Of the engine that the registry shows: no run waits for a place."""
LIMIT_PER_MINUTE = 1_000_000_000
"""Of the key, in requests and in tokens: the limits are counted and never reached."""
TABLES = {"registry": ("pool", "worker_id"), "batches": ("batch_id", "item"), "keys": ("key_id",)}
BUCKETS = ("files", "results")
QUEUES = ("work", "dead")


class Fleet:
    """Tables, queues and buckets of one pool in a local cloud."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        for name, keys in TABLES.items():
            kinds = ("HASH", "RANGE")
            self.client("dynamodb").create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, kinds, strict=False)],
            )
        for name in BUCKETS:
            self.client("s3").create_bucket(Bucket=name)
        self.queue_urls = {name: self.client("sqs").create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}

    def client(self, service: str) -> Any:
        """A boto3 client of the local cloud."""
        return self.cloud.client(service)

    @contextlib.contextmanager
    def registered(self, engine_port: int) -> Generator[None]:
        """Keep a registry entry fresh that says: one worker serves, its engine is the upstream."""
        over = threading.Event()
        table = registry.Registry(self.client("dynamodb"), "registry")

        def refresh() -> None:
            engine = registry.Engine("127.0.0.1", engine_port, SLOTS)
            while True:
                expires_at = time.time() + registry.EXPIRES_AFTER_S
                table.put(registry.WorkerEntry(POOL, "bench-0", "serving", (engine,), "none", 1, 0, 0, 0, expires_at))
                if over.wait(registry.REFRESH_S):
                    return

        thread = threading.Thread(target=refresh)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def gateway_settings(self) -> settings.GatewaySettings:
        """The gateway's document."""
        pool = settings.PoolSettings(
            queue_url=self.queue_urls["work"],
            dead_letter_queue_url=self.queue_urls["dead"],
            group_name="bench",
            fallback=(),
            served_model_name=MODEL,
            max_model_len_tokens=8192,
            expected_output_tokens=256,
            engine_keep_alive_seconds=75,
            units_per_instance=1,
            max_units=1,
            launch_hook_seconds=900,
            usd_per_million_output_tokens=1.0,
        )
        return settings.GatewaySettings(
            version=settings.VERSION,
            pattern="bench",
            region=self.cloud.region,
            metrics_namespace="LlmFleet",
            registry_table="registry",
            batch_table="batches",
            keys_table="keys",
            batch_files_bucket="files",
            batch_results_bucket="results",
            routes={"high_performance": POOL, "cost_efficient": POOL, "batch_processing": POOL},
            pools={POOL: pool},
        )


def new_key(client: DynamoDBClient) -> str:
    """An API key with both limits set."""
    limit = LIMIT_PER_MINUTE
    text, _ = create_key(client, "keys", "bench", requests_per_minute=limit, tokens_per_minute=limit)
    return text


@contextlib.contextmanager
def gateway(folder: Path, upstream_port: int) -> Generator[Proxy]:
    """The gateway itself, without the batch clerk beside it; its log is a file, as a container's would be a pipe."""
    with LocalCloud() as cloud:
        fleet = Fleet(cloud)
        key, port = new_key(fleet.client("dynamodb")), free_port()
        environment = {
            **cloud.environment(),
            settings.VARIABLE: json.dumps(fleet.gateway_settings().model_dump(mode="json")),
        }
        command = [sys.executable, "-m", "llm_fleet.gateway", "--host", "127.0.0.1", "--port", str(port), "--no-clerk"]
        with (
            fleet.registered(upstream_port),
            running("gateway", llm_fleet.__version__, command, environment, folder, port, key) as proxy,
        ):
            yield proxy
