"""Batches, files and queue messages that are not as they should be: each line still ends, and nobody stops working."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.batches.messages import LineMessage
from tests.proof.answers import MODEL
from tests.proof.door import CHAT, POOL, Door
from tests.proof.findings import Findings
from tests.proof.processes import wait_until
from tests.proof.raw import Raw, request
from tests.proof.strategies import CROOKED, anything, lines_of

LINES = 200
MESSAGES = 100


def test_no_line_breaks_its_batch(door: Door, findings: Findings) -> None:
    """Lines that the validation lets through, however odd what they ask for: each has one result, the batch ends."""
    bodies: list[Any] = []

    @CROOKED
    @given(drawn=st.lists(lines_of(CHAT), min_size=1, max_size=3))
    def draw(drawn: list[Any]) -> None:
        bodies.extend(body for body in drawn if json_safe(body))

    draw()
    lines = [
        {"custom_id": f"line {n}", "method": "POST", "url": CHAT, "body": {**body, "model": MODEL, "stream": False}}
        for n, body in enumerate(bodies[:LINES])
    ]
    with door.client() as client:
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = client.files.create(file=("odd.jsonl", text), purpose="batch")
        batch_id = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h").id

        def ended() -> Any:
            batch = client.batches.retrieve(batch_id)
            return batch if batch.status in ("completed", "failed") else None

        batch = wait_until(ended, 90, "the batch ended", door.fleet.stories)
        assert batch.status == "completed", batch.errors
        results = [
            json.loads(line)
            for file_id in (batch.output_file_id, batch.error_file_id)
            if file_id
            for line in client.files.content(file_id).text.splitlines()
        ]
    assert sorted(result["custom_id"] for result in results) == sorted(line["custom_id"] for line in lines)
    findings.say(completed=batch.request_counts.completed, failed=batch.request_counts.failed)


def json_safe(body: Any) -> bool:
    """Whether the validation takes it: lone surrogates and numbers beyond every double are refused with their line."""
    try:
        orjson.loads(json.dumps(body))
    except orjson.JSONDecodeError:
        return False
    return True


def test_no_message_stops_a_worker(door: Door) -> None:
    """Whatever lies in the queue is worked off or put aside."""
    sqs, queue = door.fleet.sqs, door.fleet.queues[POOL]
    good = LineMessage("batch_none", 0, "x", CHAT, "no-such-file", 0, 10, 2**31).to_body()
    sent: list[str] = []

    @CROOKED
    @given(
        field=st.sampled_from(sorted(json.loads(good))), value=anything, whole=st.booleans(), junk=st.text(max_size=50)
    )
    def draw(field: str, value: Any, whole: bool, junk: str) -> None:
        sent.append(json.dumps({**json.loads(good), field: value}) if whole else junk)

    draw()
    bodies = [body for body in sent if sendable(body)]
    for body in random.Random(1).sample(bodies, min(len(bodies), MESSAGES)):
        sqs.send_message(QueueUrl=queue.url, MessageBody=body)

    def worked_off() -> bool:
        left = door.fleet.left_in(POOL)
        return left["visible"] == left["in_flight"] == 0

    wait_until(worked_off, 90, "every message has gone", door.fleet.stories)
    assert all(worker.running for worker in door.workers)
    sqs.purge_queue(QueueUrl=queue.dead_letters_url)


def sendable(body: str) -> bool:
    """What SQS takes."""
    return bool(body) and all(character in "\t\n\r" or 0x20 <= ord(character) < 0xD800 for character in body)


def test_an_upload_that_breaks_off_leaves_nothing(door: Door) -> None:
    with door.client() as client:
        before = {file.id for file in client.files.list()}
        head = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        head += b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        kind: dict[str, Any] = {"Content_Type": "multipart/form-data; boundary=b", "Content_Length": str(40 << 20)}
        with Raw(door.port) as connection:
            connection.send(request("POST", "/v1/files", door.key, **kind) + head)
            connection.send(b"x" * (20 << 20))
        bucket = door.fleet.files_bucket

        def nothing_open() -> bool:
            return not door.fleet.s3.list_multipart_uploads(Bucket=bucket).get("Uploads")

        wait_until(nothing_open, 30, "the upload was given up")
        assert {file.id for file in client.files.list()} == before
