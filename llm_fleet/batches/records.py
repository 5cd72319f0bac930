"""What the batch table says of a file and of a batch, typed. Times are Unix seconds."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from llm_fleet.batches.ledger import KEEP_S, BatchStatus

FILE_ID = re.compile(r"file-[0-9a-f]{24}")
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
ENDED: frozenset[BatchStatus] = frozenset({"failed", "completed", "expired", "cancelled"})
"""Statuses that never change again."""
CANCELLABLE: frozenset[BatchStatus] = frozenset({"validating", "in_progress"})


def new_file_id() -> str:
    """An id that nobody can guess; S3 keys are made of it and of nothing that a user sent."""
    return f"file-{secrets.token_hex(12)}"


def new_batch_id() -> str:
    """An id that nobody can guess."""
    return f"batch_{secrets.token_hex(16)}"


def file_key(file_id: str) -> str:
    """Key of a file in the batch files bucket."""
    return f"{file_id}.jsonl"


@dataclass(frozen=True)
class FileRecord:
    """A file that a user sent (`batch`) or that a batch wrote (`batch_output`)."""

    file_id: str
    key_id: str
    """Of the API key that it belongs to."""
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int
    """After which it is not there, whether the table has deleted the item or not."""
    last_batch: str = ""
    """The batch that last took it as input: creating one and deleting the file exclude each other by it."""


@dataclass(frozen=True)
class BatchError:
    """What is wrong with an input file. `line` counts from 1, blank lines too; None for the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens of a batch's completed lines, as the engines counted them."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True)
class BatchRecord:
    """A batch. What has not happened yet is None or empty."""

    batch_id: str
    key_id: str
    endpoint: str
    input_file_id: str
    input_bytes: int
    completion_window: str
    created_at: int
    window_ends_at: int
    """After which lines without a result expire."""
    status: BatchStatus
    metadata: dict[str, str] | None = None
    output_keep_s: int = KEEP_S
    """How long output and error file are kept."""
    model: str | None = None
    """Of the first line."""
    total: int = 0
    """Lines; 0 until all are validated."""
    enqueued_lines: int = 0
    """Lines at the start of the file whose messages are sent."""
    enqueued_bytes: int = 0
    """Offset after them."""
    ending: str = ""
    """While finalizing: the status that follows."""
    completed: int = 0
    """Once ended; before that the lines are counted. See BatchTable.counts."""
    failed: int = 0
    errors: tuple[BatchError, ...] = ()
    usage: Usage | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing about it changes any more."""
        return self.status in ENDED


@dataclass(frozen=True)
class Counts:
    """How a batch's lines stand."""

    total: int
    completed: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        """Lines that have a result."""
        return self.completed + self.failed


Item = dict[str, Any]
"""An item or a part of it as DynamoDB's low-level client has it: {"name": {"S": "value"}}."""

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def to_attributes(values: dict[str, Any]) -> Item:
    """Plain values in DynamoDB's form; None is left out."""
    return {name: _serializer.serialize(value) for name, value in values.items() if value is not None}


def from_attributes(item: Item) -> dict[str, Any]:
    """The other way; numbers become int."""
    return {name: _plain(_deserializer.deserialize(value)) for name, value in item.items()}


def file_attributes(record: FileRecord) -> Item:
    """A file's item, but for its keys."""
    return to_attributes(asdict(record))


def file_record(item: Item) -> FileRecord:
    """Of a file's item or its entry in its key's list."""
    return FileRecord(**_known(FileRecord, from_attributes(item)))


def batch_attributes(record: BatchRecord) -> Item:
    """A batch's item, but for its keys and the lease."""
    values = asdict(record)
    del values["batch_id"]
    expires_at = record.created_at + KEEP_S
    return to_attributes({**values, "errors": [*values["errors"]], "expires_at": expires_at})


def batch_record(item: Item) -> BatchRecord:
    """Of a batch's item."""
    values = _known(BatchRecord, from_attributes(item))
    values["errors"] = tuple(BatchError(**error) for error in values.get("errors", ()))
    if values.get("usage") is not None:
        values["usage"] = Usage(**values["usage"])
    return BatchRecord(**values)


def _known(kind: type[FileRecord] | type[BatchRecord], values: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[Any]", value)]
    return int(value) if hasattr(value, "as_tuple") else value
