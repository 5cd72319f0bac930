"""Everything around a worker: queue, tables and buckets in the local cloud, an engine, a way to send lines to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from llm_fleet.batches.ledger import BATCH_ITEM, lines_item
from llm_fleet.batches.messages import LineMessage
from llm_fleet.batches.results import result_key
from llm_fleet.registry import Registry, WorkerEntry
from localcloud.cloud import ROOT, LocalCloud

T = TypeVar("T")
PATIENCE_S = 40
INSTANCE_TYPE = "g4dn.xlarge"
POOL = "cost_efficient"
QUICK = {
    "poll_wait_s": 1,
    "look_s": 0.1,
    "probe_after_s": 1,
    "probe_timeout_s": 0.5,
    "register_s": 0.2,
    "metadata_s": 0.1,
    "publish_s": 0.5,
    "status_cache_s": 0.01,
    "retry_delay_s": 0.1,
    "record_retry_s": 5,
    "linger_s": 0.5,
}


def eventually(what: Callable[[], T], why: str = "") -> T:
    """The first true value of `what`; a failure of the test where there is none for long."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < deadline, why or what
        time.sleep(0.05)


class EngineProcess:
    """The engine's stand-in."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, str(Path(__file__).with_name("engine_stand_in.py")), str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port: int = json.loads(self.process.stdout.readline())["port"]

    def control(self, **wishes: object) -> None:
        """What requests meet from now on."""
        self._ask("POST", "/control", json.dumps(wishes))

    def facts(self) -> dict[str, Any]:
        """What it has `seen`, how many requests it ran at `most` and runs `now`, `looks` at its metrics page."""
        return json.loads(self._ask("GET", "/control"))

    def seen(self, text: str) -> int:
        """How many requests held a text."""
        return sum(text in body for body in self.facts()["seen"])

    def stop(self) -> None:
        """As a crash."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def _ask(self, method: str, path: str, body: str = "") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body)
        text = connection.getresponse().read().decode()
        connection.close()
        return text


class WorkerProcess:
    """A worker and what it logged."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.log: list[dict[str, Any]] = []
        self.errors = ""
        self._readers = [threading.Thread(target=self._read_log), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of an event."""
        return [line for line in self.log if line["event"] == name]

    def until(self, event: str) -> dict[str, Any]:
        """The first line of an event, once it is there."""
        return eventually(lambda: self.events(event), f"no {event}: {self.log} {self.errors}")[0]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """The exit code, once there is one."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join()
        return code

    def close(self) -> None:
        """End it however it is."""
        self.process.kill()
        self.ended()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def _read_log(self) -> None:
        assert self.process.stdout
        self.log.extend(json.loads(line) for line in self.process.stdout)

    def _read_errors(self) -> None:
        assert self.process.stderr
        self.errors = self.process.stderr.read()


class World:
    """One pool of one instance type, named anew for each test."""

    def __init__(
        self, cloud: LocalCloud, folder: Path, *, visibility_timeout_s: int = 3, max_receives: int = 2
    ) -> None:
        self.name = f"w{uuid.uuid4().hex[:12]}"
        self.cloud = cloud
        self.folder = folder
        make = cloud.session().client
        self.sqs: Any = make("sqs", endpoint_url=cloud.endpoint_url)
        self.s3: Any = make("s3", endpoint_url=cloud.endpoint_url)
        self.dynamodb: Any = make("dynamodb", endpoint_url=cloud.endpoint_url)
        self.dead_letters_url = self._queue("dead", {})
        dead_arn = self.attributes(self.dead_letters_url)["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": max_receives})
        self.queue_url = self._queue("work", {"VisibilityTimeout": str(visibility_timeout_s), "RedrivePolicy": policy})
        for bucket in ("files", "results"):
            self.s3.create_bucket(Bucket=self._named(bucket))
        self._table("batches", "batch_id", "item")
        self._table("workers", "pool", "worker_id")
        self.batch_id = "batch_1"
        self.lines = 0

    def settings(self, port: int, **changes: Any) -> dict[str, Any]:
        """The document, with `worker` times that suit a test."""
        document: dict[str, Any] = {
            "version": 1,
            "pattern": "startup-mvp",
            "pool": POOL,
            "region": self.cloud.region,
            "queue_url": self.queue_url,
            "dead_letter_queue_url": self.dead_letters_url,
            "registry_table": self._named("workers"),
            "batch_table": self._named("batches"),
            "batch_files_bucket": self._named("files"),
            "batch_results_bucket": self._named("results"),
            "hooks": {"launch": "launch", "launch_seconds": 60, "terminate": "drain", "drain_seconds": 20},
            "engine": {"port": port, "name": "vllm"},
            "model": {"served_model_name": "m"},
            "instance_types": {INSTANCE_TYPE: {"replicas": 1, "max_num_seqs": 8, "capacity_weight": 2}},
        }
        times = QUICK | changes.pop("worker", {})
        return document | {"worker": times} | changes

    @contextlib.contextmanager
    def worker(
        self, document: dict[str, Any], worker_id: str = "w-1", host: str = "127.0.0.1", **environment: str
    ) -> Generator[WorkerProcess]:
        """A worker's process; with a metadata service in `environment` it asks that one who it is."""
        path = self.folder / f"{uuid.uuid4().hex}.json"
        path.write_text(json.dumps(document))
        command = [sys.executable, "-m", "llm_fleet.worker", "--settings", str(path)]
        if "AWS_EC2_METADATA_SERVICE_ENDPOINT" not in environment:
            command += ["--worker-id", worker_id, "--host", host, "--instance-type", INSTANCE_TYPE]
        process = WorkerProcess(command, self.cloud.environment() | environment)
        try:
            yield process
        finally:
            process.close()

    def batch(self, status: str = "in_progress") -> None:
        """Put the batch, or change its status."""
        item = {"batch_id": {"S": self.batch_id}, "item": {"S": BATCH_ITEM}, "status": {"S": status}}
        self.dynamodb.put_item(TableName=self._named("batches"), Item=item)

    def send(self, marker: str = "", *, deadline_s: float = 600, raw: str = "", **wish: Any) -> int:
        """Put a line into a file of its own and its message into the queue; returns the line's number."""
        number, self.lines = self.lines, self.lines + 1
        body = json.dumps({"model": "m", "marker": marker, "stand_in": wish})
        line = raw or f'{{"custom_id": "c{number}", "method": "POST", "url": "/v1/chat/completions", "body": {body}}}'
        key = f"file-{number}"
        data = f"something before\n{line}\nsomething after".encode()
        self.s3.put_object(Bucket=self._named("files"), Key=key, Body=data)
        message = LineMessage(
            batch_id=self.batch_id,
            line=number,
            custom_id=f"c{number}",
            endpoint="/v1/chat/completions",
            file_key=key,
            offset=data.index(b"\n") + 1,
            length=len(line.encode()),
            deadline=int(time.time() + deadline_s),
        )
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=message.to_body())
        return number

    def result(self, line: int) -> Any:
        """A line's result line, parsed; None while there is none."""
        try:
            answer = self.s3.get_object(Bucket=self._named("results"), Key=result_key(self.batch_id, line))
        except ClientError:
            return None
        return json.loads(answer["Body"].read())

    def store_result(self, line: int, result: dict[str, Any]) -> None:
        """As an earlier worker did that died before it counted the line."""
        key = result_key(self.batch_id, line)
        self.s3.put_object(Bucket=self._named("results"), Key=key, Body=json.dumps(result).encode())

    def ended(self, line: int) -> bool:
        """Whether the line is counted."""
        return str(line) in self.counts(line).get("ended", {}).get("NS", ())

    def counts(self, line: int = 0) -> dict[str, Any]:
        """The item that holds a line."""
        key = {"batch_id": {"S": self.batch_id}, "item": {"S": lines_item(line)}}
        return self.dynamodb.get_item(TableName=self._named("batches"), Key=key, ConsistentRead=True).get("Item", {})

    def attributes(self, queue_url: str) -> dict[str, str]:
        return self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]

    def in_queue(self) -> tuple[int, int]:
        """Messages visible, and messages leased."""
        found = self.attributes(self.queue_url)
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])

    def is_empty(self) -> bool:
        return self.in_queue() == (0, 0)

    def dead(self) -> list[dict[str, Any]]:
        """Messages of the dead-letter queue, taken out, with their attributes."""
        answer = self.sqs.receive_message(
            QueueUrl=self.dead_letters_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        return answer.get("Messages", [])

    def registered(self) -> tuple[WorkerEntry, ...]:
        """Entries that have not expired."""
        return Registry(self.dynamodb, self._named("workers")).workers(POOL, time.time())

    def state(self) -> str:
        """State of the only worker; empty where none is registered."""
        return next((entry.state for entry in self.registered()), "")

    def _named(self, what: str) -> str:
        return f"{self.name}-{what}"

    def _queue(self, what: str, attributes: dict[str, str]) -> str:
        return self.sqs.create_queue(QueueName=self._named(what), Attributes=attributes)["QueueUrl"]

    def _table(self, what: str, partition: str, sort: str) -> None:
        self.dynamodb.create_table(
            TableName=self._named(what),
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in (partition, sort)],
            KeySchema=[
                {"AttributeName": partition, "KeyType": "HASH"},
                {"AttributeName": sort, "KeyType": "RANGE"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
