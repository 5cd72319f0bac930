"""OpenAI's Batches endpoints: create, list, retrieve, cancel. They write down what is wanted; the clerk does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import orjson

from llm_fleet.batches.batch_table import NotCancellableError
from llm_fleet.batches.ledger import KEEP_S
from llm_fleet.batches.records import BATCH_ID, BatchRecord, Counts, Usage, new_batch_id
from llm_fleet.batches.table import ConditionFailedError
from llm_fleet.gateway.batch_storage import BatchStorage
from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.files_api import FilesApi, list_page, no_such_file
from llm_fleet.gateway.http import Request, Response, Route
from llm_fleet.gateway.parameters import LEAST_KEEP_S, invalid_value, missing_parameter, whole_number
from llm_fleet.gateway.settings import GatewaySettings

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
"""What a batch's lines may ask for."""
WINDOW_S = 86_400
"""Of completion_window "24h", the only one."""
MAX_METADATA = 16
MAX_METADATA_KEY_CHARACTERS = 64
MAX_METADATA_VALUE_CHARACTERS = 512
DEFAULT_LIST_LIMIT = 20
MAX_LIST_LIMIT = 100
_PARAMETERS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")


def routes(settings: GatewaySettings, clock: Callable[[], float] = time.time) -> list[Route]:
    """The endpoints for files and batches. `clock` gives Unix seconds."""
    storage = BatchStorage(settings)
    return [*FilesApi(storage, clock).routes(), *BatchesApi(storage, clock).routes()]


class BatchesApi:
    """The endpoints. `clock` gives Unix seconds."""

    def __init__(self, storage: BatchStorage, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._clock = clock

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("POST", "/v1/batches", self.create),
            Route("GET", "/v1/batches", self.list),
            Route("GET", "/v1/batches/{batch_id}", self.retrieve),
            Route("POST", "/v1/batches/{batch_id}/cancel", self.cancel),
        ]

    async def create(self, request: Request) -> Response:
        """Write down a new batch; validation of its lines follows in the clerk."""
        wanted = _checked_body(await request.read())
        output_keep_s = _output_keep_s(wanted.get("output_expires_after"))
        now = self._clock()
        file_id = wanted["input_file_id"]
        file = await self._storage.run(self._storage.files.get, request.key.key_id, file_id, now)
        if file is None:
            raise no_such_file(file_id, "input_file_id")
        if file.purpose != "batch":
            raise invalid_value("input_file_id", file_id, "files with purpose 'batch'")
        record = BatchRecord(
            batch_id=new_batch_id(),
            key_id=request.key.key_id,
            endpoint=wanted["endpoint"],
            input_file_id=file_id,
            input_bytes=file.bytes,
            completion_window=wanted["completion_window"],
            created_at=int(now),
            window_ends_at=int(now) + WINDOW_S,
            status="validating",
            metadata=wanted.get("metadata"),
            output_keep_s=output_keep_s,
        )
        try:
            await self._storage.run(self._storage.batches.add, record)
        except ConditionFailedError as error:
            raise no_such_file(file_id, "input_file_id") from error
        return Response(200, orjson.dumps(batch_object(record, Counts(0))))

    async def list(self, request: Request) -> Response:
        """The key's batches, newest first."""
        limit = whole_number(request.query, "limit", DEFAULT_LIST_LIMIT, MAX_LIST_LIMIT)
        cursor = request.query.get("after")
        after = await self._find(request, cursor) if cursor else None
        look = self._storage.batches.list_ids
        ids = await self._storage.run(look, request.key.key_id, after=after, limit=limit + 1)
        found = await asyncio.gather(*(self._storage.run(self._read, batch_id) for batch_id in ids))
        return Response(200, list_page([each for each in found if each is not None], limit))

    async def retrieve(self, request: Request) -> Response:
        """A batch as it stands now."""
        record = await self._named(request)
        return Response(200, orjson.dumps(await self._storage.run(self._object, record)))

    async def cancel(self, request: Request) -> Response:
        """Ask for a batch's end: what runs is finished, what waits is dropped, what is done is in its files."""
        record = await self._named(request)
        try:
            record = await self._storage.run(self._storage.batches.cancel, record.batch_id, self._clock())
        except NotCancellableError as error:
            message = f"Cannot cancel a batch with status '{error.record.status}'."
            raise ApiError(409, message, "batch_not_cancellable") from error
        return Response(200, orjson.dumps(await self._storage.run(self._object, record)))

    async def _named(self, request: Request) -> BatchRecord:
        return await self._find(request, request.path_parameters["batch_id"])

    async def _find(self, request: Request, batch_id: str) -> BatchRecord:
        record = await self._storage.run(self._storage.batches.get, batch_id)
        if record is None or record.key_id != request.key.key_id:
            shown = batch_id if BATCH_ID.fullmatch(batch_id) else batch_id[:40]
            raise ApiError(404, f"No batch found with id '{shown}'.", "not_found", "batch_id")
        return record

    def _read(self, batch_id: str) -> dict[str, Any] | None:
        record = self._storage.batches.get(batch_id)
        return self._object(record) if record else None

    def _object(self, record: BatchRecord) -> dict[str, Any]:
        return batch_object(record, self._storage.batches.counts(record))


def batch_object(record: BatchRecord, counts: Counts) -> dict[str, Any]:
    """OpenAI's Batch object."""
    errors = {"object": "list", "data": [asdict(error) for error in record.errors]} if record.errors else None
    return {
        "id": record.batch_id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": errors,
        "input_file_id": record.input_file_id,
        "completion_window": record.completion_window,
        "status": record.status,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": record.created_at,
        "in_progress_at": record.in_progress_at,
        "expires_at": record.window_ends_at,
        "finalizing_at": record.finalizing_at,
        "completed_at": record.completed_at,
        "failed_at": record.failed_at,
        "expired_at": record.expired_at,
        "cancelling_at": record.cancelling_at,
        "cancelled_at": record.cancelled_at,
        "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        "usage": _usage_object(record.usage) if record.usage else None,
        "metadata": record.metadata,
    }


def _usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _checked_body(body: bytes) -> dict[str, Any]:
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is no valid JSON: {error}.", "invalid_json") from error
    if not isinstance(parsed, dict):
        raise ApiError(400, "The body is no JSON object.", "invalid_json")
    wanted = cast("dict[str, Any]", parsed)
    for name in wanted:
        if name not in _PARAMETERS:
            raise ApiError(400, f"Unknown parameter: '{name[:80]}'.", "unknown_parameter", name[:80])
    for name in _PARAMETERS[:3]:
        if wanted.get(name) is None:
            raise missing_parameter(name)
        if not isinstance(wanted[name], str):
            raise ApiError(400, f"Invalid type for '{name}': expected a string.", "invalid_type", name)
    if wanted["endpoint"] not in ENDPOINTS:
        raise invalid_value("endpoint", wanted["endpoint"], ", ".join(f"'{each}'" for each in ENDPOINTS))
    if wanted["completion_window"] != "24h":
        raise invalid_value("completion_window", wanted["completion_window"], "'24h'")
    _check_metadata(wanted.get("metadata"))
    return wanted


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise ApiError(400, "Invalid type for 'metadata': expected an object.", "invalid_type", "metadata")
    pairs = cast("dict[str, object]", metadata)
    if len(pairs) > MAX_METADATA:
        message = f"Invalid 'metadata': {len(pairs)} pairs, and {MAX_METADATA} are the most that is allowed."
        raise ApiError(400, message, "invalid_value", "metadata")
    for name, value in pairs.items():
        if len(name) > MAX_METADATA_KEY_CHARACTERS:
            message = f"Invalid 'metadata': a key is longer than {MAX_METADATA_KEY_CHARACTERS} characters."
            raise ApiError(400, message, "invalid_value", "metadata")
        if not isinstance(value, str) or len(value) > MAX_METADATA_VALUE_CHARACTERS:
            message = f"expected a string of at most {MAX_METADATA_VALUE_CHARACTERS} characters"
            raise ApiError(400, f"Invalid 'metadata.{name}': {message}.", "invalid_value", f"metadata.{name}")


def _output_keep_s(given: object) -> int:
    if given is None:
        return KEEP_S
    wanted = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    if wanted.get("anchor") != "created_at":
        raise invalid_value("output_expires_after.anchor", str(wanted.get("anchor")), "'created_at'")
    name = "output_expires_after.seconds"
    if wanted.get("seconds") is None:
        raise missing_parameter(name)
    return whole_number({name: wanted["seconds"]}, name, KEEP_S, KEEP_S, LEAST_KEEP_S)
