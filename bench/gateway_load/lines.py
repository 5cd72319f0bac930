"""A batch that is under way, for `bench/worker`: its input file, its items, a message for each line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from bench.gateway_load.fleet import Fleet
from bench.gateway_load.tools import MODEL
from llm_fleet.batches.ledger import BATCH_ITEM, LINES_PREFIX
from llm_fleet.batches.messages import LineMessage
from llm_fleet.batches.records import BatchRecord, batch_attributes, file_key, new_batch_id, new_file_id

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

PATH = "/v1/chat/completions"
WINDOW_S = 86_400
SEND_AT_ONCE = 10


def start_batch(fleet: Fleet, lines: int) -> list[LineMessage]:
    """Store a batch of so many lines of about 1 KB and send their messages; gives these."""
    s3: S3Client = fleet.client("s3")
    sqs: SQSClient = fleet.client("sqs")
    dynamodb: DynamoDBClient = fleet.client("dynamodb")
    now, file_id, batch_id = int(time.time()), new_file_id(), new_batch_id()
    texts = [_line(number) for number in range(lines)]
    s3.put_object(Bucket="files", Key=file_key(file_id), Body=b"".join(texts))
    record = BatchRecord(
        batch_id=batch_id,
        key_id="bench",
        endpoint=PATH,
        input_file_id=file_id,
        input_bytes=sum(map(len, texts)),
        completion_window="24h",
        created_at=now,
        window_ends_at=now + WINDOW_S,
        status="in_progress",
        total=lines,
    )
    item = {"batch_id": {"S": batch_id}, "item": {"S": BATCH_ITEM}, **batch_attributes(record)}
    dynamodb.put_item(TableName="batches", Item=item)
    messages: list[LineMessage] = []
    offset = 0
    for number, text in enumerate(texts):
        place = {"file_key": file_key(file_id), "offset": offset, "length": len(text) - 1}
        messages.append(LineMessage(batch_id, number, f"line-{number}", PATH, deadline=now + WINDOW_S, **place))  # pyright: ignore[reportArgumentType]
        offset += len(text)
    for first in range(0, lines, SEND_AT_ONCE):
        some = messages[first : first + SEND_AT_ONCE]
        entries: Any = [{"Id": str(message.line), "MessageBody": message.to_body()} for message in some]
        sqs.send_message_batch(QueueUrl=fleet.queue_urls["work"], Entries=entries)
    return messages


def ended_lines(fleet: Fleet, batch_id: str) -> int:
    """How many lines are counted as completed."""
    dynamodb: DynamoDBClient = fleet.client("dynamodb")
    pages = dynamodb.get_paginator("query").paginate(
        TableName="batches",
        KeyConditionExpression="batch_id = :batch_id AND begins_with(#item, :lines)",
        ExpressionAttributeNames={"#item": "item"},
        ExpressionAttributeValues={":batch_id": {"S": batch_id}, ":lines": {"S": LINES_PREFIX}},
    )
    return sum(int(item.get("completed", {"N": "0"}).get("N", "0")) for page in pages for item in page["Items"])


def _line(number: int) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "word " * 170}], "max_tokens": 100}
    return orjson.dumps({"custom_id": f"line-{number}", "method": "POST", "url": PATH, "body": body}) + b"\n"
