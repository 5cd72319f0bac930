"""What files and batches need, made in a local cloud; and requests to the endpoints as the wire would make them."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import orjson

from llm_fleet.aws import client
from llm_fleet.batches.batch_table import BatchTable
from llm_fleet.batches.ledger import BatchLedger
from llm_fleet.batches.results import Answer, Failure, Results
from llm_fleet.batches.table import Table
from llm_fleet.gateway.batches_api import routes
from llm_fleet.gateway.clerk.clerk import Clerk
from llm_fleet.gateway.clerk.pace import Pace
from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.http import Request, Route
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.gateway.settings import GatewaySettings, PoolSettings
from llm_fleet.json_log import JsonLog

REGION = "us-east-1"
MODEL = "small"
CHAT = "/v1/chat/completions"
ALICE = ApiKey("aaaaaaaaaaaa", "", "alice", 0)
BOB = ApiKey("bbbbbbbbbbbb", "", "bob", 0)
QUICK = Pace(poll_s=0.05, lease_s=3, dead_letters_s=0.05, cancel_wait_s=60, back_off_s=0.2)


class Clock:
    """Unix seconds that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class BatchWorld:
    """Table, buckets and queues of their own in the cloud that the environment names; the endpoints and a clerk in this
    process.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        name = f"t-{uuid.uuid4().hex[:10]}"
        self.dynamodb = client("dynamodb", REGION)
        self.s3 = client("s3", REGION)
        self.sqs = client("sqs", REGION)
        keys = (("batch_id", "HASH"), ("item", "RANGE"))
        self.dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
            BillingMode="PAY_PER_REQUEST",
        )
        self.files_bucket, self.results_bucket = f"{name}-files", f"{name}-results"
        for bucket in (self.files_bucket, self.results_bucket):
            self.s3.create_bucket(Bucket=bucket)
        self.settings = GatewaySettings(
            version=2,
            pattern="test",
            region=REGION,
            metrics_namespace="LlmFleet",
            registry_table="none",
            batch_table=name,
            keys_table="none",
            batch_files_bucket=self.files_bucket,
            batch_results_bucket=self.results_bucket,
            routes={"high_performance": "cost_efficient"},
            pools={
                "cost_efficient": self._pool(name, "cost-efficient", 4096),
                "batch_processing": self._pool(name, "batch-processing", 2048),
            },
        )
        self.clock = clock
        self.ledger = BatchLedger(self.dynamodb, name)
        self.results = Results(self.s3, self.results_bucket, self.ledger, clock)
        self.batches = BatchTable(Table(self.dynamodb, name))
        self._routes = routes(self.settings, clock)

    def _pool(self, name: str, pool: str, max_model_len_tokens: int) -> PoolSettings:
        dead = self.sqs.create_queue(QueueName=f"{name}-{pool}-dead")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
        queue = self.sqs.create_queue(QueueName=f"{name}-{pool}", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
        return PoolSettings(
            queue_url=queue,
            dead_letter_queue_url=dead,
            group_name="none",
            fallback=("cost_efficient",),
            served_model_name=MODEL,
            max_model_len_tokens=max_model_len_tokens,
            expected_output_tokens=100,
            engine_keep_alive_seconds=60,
            units_per_instance=1,
            max_units=4,
            launch_hook_seconds=600,
            usd_per_million_output_tokens=None,
        )

    def clerk(self, pace: Pace = QUICK) -> Clerk:
        return Clerk(self.settings, pace, JsonLog("clerk"), self.clock)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        *,
        key: ApiKey = ALICE,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and body of an answer: parsed where it is JSON."""
        route, parameters = self._route(method, path)
        pieces = [body] if isinstance(body, bytes) else body

        async def stream() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        async def answer() -> tuple[int, Any]:
            request = Request(method, path, query or {}, headers or {}, key, "req", 0, stream(), parameters)
            try:
                response = await route.endpoint(request)
            except ApiError as error:
                return error.status, orjson.loads(error.body())
            if isinstance(response.body, bytes):
                return response.status, orjson.loads(response.body)
            return response.status, b"".join([piece async for piece in response.body])

        return asyncio.run(answer())

    def _route(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        for route in self._routes:
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.pattern)
            found = re.fullmatch(pattern, path)
            if route.method == method and found:
                return route, found.groupdict()
        raise LookupError(f"{method} {path}")

    def upload(self, content: bytes, *, key: ApiKey = ALICE, filename: str = "in.jsonl") -> dict[str, Any]:
        status, answer = self.ask("POST", "/v1/files", form(content, filename=filename), key=key, headers=FORM_HEADERS)
        assert status == 200, answer
        return answer

    def create(self, lines: bytes, endpoint: str = CHAT) -> str:
        """A new batch of an uploaded file; its id."""
        wanted = {"input_file_id": self.upload(lines)["id"], "endpoint": endpoint, "completion_window": "24h"}
        status, batch = self.ask("POST", "/v1/batches", orjson.dumps(wanted))
        assert status == 200, batch
        return batch["id"]

    def batch(self, batch_id: str) -> dict[str, Any]:
        status, batch = self.ask("GET", f"/v1/batches/{batch_id}")
        assert status == 200, batch
        return batch

    def lines_of(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of an output or error file."""
        if file_id is None:
            return []
        status, content = self.ask("GET", f"/v1/files/{file_id}/content")
        assert status == 200
        return [orjson.loads(line) for line in content.splitlines()]

    def carry(self, clerk: Clerk, batch_id: str, *statuses: str) -> dict[str, Any]:
        """Let the clerk poll until the batch has one of the statuses."""
        batch = self.batch(batch_id)
        for _ in range(500):
            clerk.poll_and_wait()
            batch = self.batch(batch_id)
            if batch["status"] in statuses:
                return batch
        raise AssertionError(f"the batch stays {batch['status']}")

    def messages(self) -> list[dict[str, Any]]:
        """All messages that wait, of all pools, each with its pool."""
        found: list[dict[str, Any]] = []
        for name, pool in self.settings.pools.items():
            while True:
                got = self.sqs.receive_message(QueueUrl=pool.queue_url, MaxNumberOfMessages=10).get("Messages", [])
                if not got:
                    break
                found += [{**orjson.loads(message["Body"]), "pool": name} for message in got]
                done = [{"Id": str(at), "ReceiptHandle": each["ReceiptHandle"]} for at, each in enumerate(got)]
                self.sqs.delete_message_batch(QueueUrl=pool.queue_url, Entries=done)
        return found


BOUNDARY = "a-boundary"
FORM_HEADERS = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(content: bytes, *, purpose: str | None = "batch", filename: str = "in.jsonl", more: str = "") -> bytes:
    """An upload as clients send it."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
    fields = more + (f'{head}purpose"\r\n\r\n{purpose}\r\n' if purpose is not None else "")
    file = f'{head}file"; filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    return fields.encode() + file.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def request_line(custom_id: str, prompt: str = "Hello", **body: Any) -> bytes:
    """A line of an input file."""
    messages = [{"role": "user", "content": prompt}]
    wanted = {"model": MODEL, "messages": messages, "max_tokens": 10, **body}
    return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": wanted})


def request_lines(count: int) -> bytes:
    """An input file."""
    return b"".join(request_line(f"id-{number}") + b"\n" for number in range(count))


def answer(text: str = "Hi", status_code: int = 200) -> Answer:
    """What an engine may answer."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return Answer(status_code, "req-1", orjson.dumps({"choices": [choice], "usage": usage}))


FAILED = Failure("engine_error", "The engine ended.")
