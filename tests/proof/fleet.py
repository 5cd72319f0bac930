"""A fleet under test: queues, tables and buckets in the local cloud, gateway and instances as real processes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_fleet.batches.ledger import LINES_PREFIX
from llm_fleet.gateway.key_store import create_key
from localcloud.cloud import LocalCloud, free_port
from tests.proof.answers import MODEL
from tests.proof.engine import SLOTS
from tests.proof.instances import EngineProcess, Instance
from tests.proof.processes import Process

VISIBILITY_TIMEOUT_S = 6
MAX_RECEIVES = 20
"""More than on AWS: here every line meets a dozen faults, and few shall end for that alone."""
INSTANCE_TYPE = "g5.xlarge"
MAX_TOKENS = 8192
CLERK_PACE = {
    "LLM_FLEET_CLERK_POLL_S": "0.5",
    "LLM_FLEET_CLERK_LEASE_S": "10",
    "LLM_FLEET_CLERK_DEAD_LETTERS_S": "5",
    "LLM_FLEET_CLERK_BACK_OFF_S": "5",
}
AWS_SECRET = "proof-aws-secret-that-nobody-may-print"
"""The local cloud takes any."""
WORKER_TIMES = {
    "answer_timeout_s": 6,
    "poll_wait_s": 1,
    "probe_timeout_s": 5,
    "metadata_s": 0.5,
    "register_s": 2,
    "status_cache_s": 1,
    "retry_delay_s": 0.5,
    "linger_s": 3,
}
"""Short, so that a run meets many of them; the stack leaves them longer."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Queue:
    """A pool's queue and where its poison goes."""

    url: str
    dead_letters_url: str


class Fleet:
    """Everything of one test. `endpoint_url` is where the services find AWS: a fault proxy, or the cloud itself;
    `exchange` are the gateway's time-outs towards engines where they are not the defaults.
    """

    def __init__(
        self,
        cloud: LocalCloud,
        folder: Path,
        *,
        pools: Sequence[str],
        endpoint_url: str = "",
        engine_delay_s: float = 0.0,
        probe_after_s: float = 600,
        exchange: Mapping[str, float] | None = None,
    ) -> None:
        self.cloud = cloud
        self.folder = folder
        self.environment = {
            **cloud.environment(),
            "AWS_ENDPOINT_URL": endpoint_url or cloud.endpoint_url,
            "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
            **CLERK_PACE,
        }
        self.name = f"proof{next(_numbers)}"
        self._engine_delay_s = engine_delay_s
        self._exchange = dict(exchange or {})
        self._worker_times = {**WORKER_TIMES, "probe_after_s": probe_after_s}
        self.sqs: Any = self._client("sqs")
        self.s3: Any = self._client("s3")
        self.dynamodb: Any = self._client("dynamodb")
        self.registry_table = self._table("workers", "pool", "worker_id")
        self.batch_table = self._table("batches", "batch_id", "item")
        self.keys_table = self._table("keys", "key_id")
        self.files_bucket = self._bucket("files")
        self.results_bucket = self._bucket("results")
        self.queues = {pool: self._queue(pool) for pool in pools}
        self.processes: list[Process] = []
        self.key = self.add_key("proof")

    def _client(self, service: str) -> Any:
        make: Any = self.cloud.session().client
        return make(service, endpoint_url=self.cloud.endpoint_url)

    def _table(self, name: str, *keys: str) -> str:
        table = f"{self.name}-{name}"
        kinds = ("HASH", "RANGE")
        self.dynamodb.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, kinds, strict=False)],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        )
        return table

    def _bucket(self, name: str) -> str:
        bucket = f"{self.name}-{name}"
        self.s3.create_bucket(Bucket=bucket)
        return bucket

    def _queue(self, pool: str) -> Queue:
        name = f"{self.name}-{pool.replace('_', '-')}"
        dead = self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(MAX_RECEIVES)})
        attributes = {"VisibilityTimeout": str(VISIBILITY_TIMEOUT_S), "RedrivePolicy": policy}
        return Queue(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"], dead)

    def add_key(self, name: str, **limits: Any) -> str:
        """A new API key."""
        text, _ = create_key(self.dynamodb, self.keys_table, name, **limits)
        return text

    def gateway_settings(self) -> dict[str, Any]:
        """The gateway's settings document."""
        return {
            "version": 2,
            "pattern": self.name,
            "region": self.cloud.region,
            "metrics_namespace": "LlmFleet",
            "registry_table": self.registry_table,
            "batch_table": self.batch_table,
            "keys_table": self.keys_table,
            "batch_files_bucket": self.files_bucket,
            "batch_results_bucket": self.results_bucket,
            "routes": {pool: pool for pool in self.queues},
            "exchange": self._exchange,
            "pools": {
                pool: {
                    "queue_url": queue.url,
                    "dead_letter_queue_url": queue.dead_letters_url,
                    "group_name": f"{self.name}-{pool}",
                    "fallback": [],
                    "served_model_name": MODEL,
                    "max_model_len_tokens": MAX_TOKENS,
                    "expected_output_tokens": 64,
                    "engine_keep_alive_seconds": 60,
                    "units_per_instance": 1,
                    "max_units": 4,
                    "launch_hook_seconds": 600,
                    "usd_per_million_output_tokens": 1.0,
                }
                for pool, queue in self.queues.items()
            },
        }

    def worker_settings(self, pool: str, engine_port: int) -> dict[str, Any]:
        """A worker's settings document, as far as the worker reads it; the shape is the CDK's pool_settings."""
        queue = self.queues[pool]
        plan = {
            "replicas": 1,
            "tensor_parallel": 1,
            "max_num_seqs": SLOTS,
            "capacity_weight": 1,
            "arguments": [],
            "artifacts_key": None,
        }
        return {
            "version": 1,
            "pattern": self.name,
            "pool": pool,
            "region": self.cloud.region,
            "queue_url": queue.url,
            "dead_letter_queue_url": queue.dead_letters_url,
            "registry_table": self.registry_table,
            "batch_table": self.batch_table,
            "batch_files_bucket": self.files_bucket,
            "batch_results_bucket": self.results_bucket,
            "weights_bucket": "unused",
            "log_group": "unused",
            "hooks": {"launch": "launch", "launch_seconds": 600, "terminate": "drain", "drain_seconds": 20},
            "engine": {
                "name": "vllm",
                "version": "0.33.0",
                "image": "unused",
                "vendor": "nvidia",
                "port": engine_port,
                "environment": {},
                "artifacts_folder": "",
            },
            "model": {"served_model_name": MODEL, "repository": None, "revision": None, "token_secret": None},
            "instance_types": {INSTANCE_TYPE: plan},
            "worker": self._worker_times,
        }

    def start_gateway(self, *arguments: str, port: int = 0, wait: bool = True) -> Gateway:
        """A gateway; one that accepts connections unless told not to wait."""
        environment = {**self.environment, "LLM_FLEET_SETTINGS": json.dumps(self.gateway_settings())}
        gateway = Gateway(f"gateway{next(_numbers)}", port, arguments, environment, self.folder)
        self.processes.append(gateway)
        if wait:
            gateway.wait_for("listening")
        return gateway

    def start_engine(self) -> EngineProcess:
        """An engine that accepts connections."""
        engine = EngineProcess(f"engine{next(_numbers)}", self._engine_delay_s, self.environment, self.folder)
        self.processes.append(engine)
        engine.wait_for("listening")
        return engine

    def start_instance(self, pool: str) -> Instance:
        """An engine and its worker, with an IMDS of their own; not waited for."""
        engine = self.start_engine()
        name = f"i-{next(_numbers):017x}"
        settings = self.folder / f"{name}.json"
        settings.write_text(json.dumps(self.worker_settings(pool, engine.port)))
        instance = Instance(
            name,
            INSTANCE_TYPE,
            self.gateway_settings()["pools"][pool]["group_name"],
            engine,
            settings,
            self.environment,
            self.folder,
        )
        self.processes.append(instance.worker)
        return instance

    def start_worker_without_imds(self, pool: str, engine: EngineProcess) -> Process:
        """A worker as on a laptop, for an engine that runs; not waited for."""
        name = f"worker{next(_numbers)}"
        settings = self.folder / f"{name}.json"
        settings.write_text(json.dumps(self.worker_settings(pool, engine.port)))
        identity = ["--worker-id", name, "--host", "127.0.0.1", "--instance-type", INSTANCE_TYPE]
        arguments = ["-m", "llm_fleet.worker", "--settings", str(settings), *identity]
        worker = Process(name, arguments, self.environment, self.folder)
        self.processes.append(worker)
        return worker

    def ended_lines(self, batch_id: str) -> int:
        """Lines of a batch that have a result, read past the gateway, which may be down."""
        answer = self.dynamodb.query(
            TableName=self.batch_table,
            KeyConditionExpression="batch_id = :batch AND begins_with(#item, :lines)",
            ExpressionAttributeNames={"#item": "item"},
            ExpressionAttributeValues={":batch": {"S": batch_id}, ":lines": {"S": LINES_PREFIX}},
        )
        return sum(len(item["ended"]["NS"]) for item in answer["Items"])

    def left_in(self, pool: str) -> dict[str, int]:
        """Messages in the pool's queue and among its dead letters."""
        names = {"visible": "ApproximateNumberOfMessages", "in_flight": "ApproximateNumberOfMessagesNotVisible"}
        queue = self.queues[pool]
        ask = self.sqs.get_queue_attributes
        found = ask(QueueUrl=queue.url, AttributeNames=list(names.values()))["Attributes"]
        dead = ask(QueueUrl=queue.dead_letters_url, AttributeNames=[names["visible"]])["Attributes"]
        return {**{name: int(found[of]) for name, of in names.items()}, "dead": int(dead[names["visible"]])}

    def stories(self) -> str:
        """The last words of every process, for failure messages."""
        return "\n".join(process.story() for process in self.processes)

    def logs(self) -> str:
        """Everything that any service wrote."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.*")) if path.is_file())

    def stop(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes:
            process.kill()


class Gateway(Process):
    """A gateway; `base_url` is what a client needs."""

    def __init__(
        self, name: str, port: int, arguments: Sequence[str], environment: dict[str, str], folder: Path
    ) -> None:
        self.port = port or free_port()
        command = ["-m", "llm_fleet.gateway", "--host", "127.0.0.1", "--port", str(self.port), *arguments]
        super().__init__(name, command, environment, folder)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"
