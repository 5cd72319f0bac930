"""OpenAI's Files endpoints, for files of batches: upload, list, retrieve, content, delete.

A file's name is kept and shown, and used for nothing: where a file lies is made of its id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from llm_fleet.batches.file_objects import RANGE_BYTES, FileWriter
from llm_fleet.batches.file_table import FileInUseError
from llm_fleet.batches.ledger import KEEP_S
from llm_fleet.batches.records import FILE_ID, FileRecord, file_key, new_file_id
from llm_fleet.batches.table import ConditionFailedError
from llm_fleet.gateway.batch_storage import BatchStorage
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.http import Request, Response, Route
from llm_fleet.gateway.multipart import FieldEnd, FieldStart, FormError, FormParser

MAX_FILE_BYTES = 200 * 1024 * 1024
"""OpenAI's 200 MB, taken as whatever a client may mean by it."""
FORM_BYTES = 1024 * 1024
"""What a form may hold around its file."""
MAX_FIELD_BYTES = 64 * 1024
"""Of a field that is no file."""
MAX_FILENAME_CHARACTERS = 255
MAX_UPLOADS = 8
"""At once: each holds up to two parts of 8 MiB in memory."""
UPLOAD_RETRY_AFTER_S = 10
LEAST_KEEP_S = 3600
"""OpenAI's least for expires_after; the most is KEEP_S, as here everything goes after 30 days."""
DEFAULT_LIST_LIMIT = 10_000


class FilesApi:
    """The endpoints. `clock` gives Unix seconds."""

    def __init__(self, storage: BatchStorage, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._clock = clock
        self._uploads = 0

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("POST", "/v1/files", self.upload, MAX_FILE_BYTES + FORM_BYTES),
            Route("GET", "/v1/files", self.list),
            Route("GET", "/v1/files/{file_id}", self.retrieve),
            Route("GET", "/v1/files/{file_id}/content", self.content),
            Route("DELETE", "/v1/files/{file_id}", self.delete),
        ]

    async def upload(self, request: Request) -> Response:
        """Stream the form's file into the bucket; it is there once this answers."""
        if self._uploads >= MAX_UPLOADS:
            message = f"{MAX_UPLOADS} files are being uploaded already. Please try again in a moment."
            raise ApiError(429, message, "too_many_uploads", headers=retry_after(UPLOAD_RETRY_AFTER_S))
        file_id = new_file_id()
        writer = self._storage.objects.writer(file_key(file_id))
        self._uploads += 1
        try:
            form = await self._read_form(request, writer)
            keep_s = form.checked_keep_s()
            await self._storage.run(writer.finish)
        except BaseException:
            # Not awaited: the client may be gone and this coroutine cancelled.
            self._storage.start(writer.abort)
            raise
        finally:
            self._uploads -= 1
        now = int(self._clock())
        name = form.filename[:MAX_FILENAME_CHARACTERS] or "upload.jsonl"
        record = FileRecord(file_id, request.key.key_id, writer.size, now, name, "batch", now + keep_s)
        await self._storage.run(self._storage.files.add, record)
        return Response(200, orjson.dumps(file_object(record)))

    async def list(self, request: Request) -> Response:
        """The key's files."""
        limit = whole_number(request.query, "limit", DEFAULT_LIST_LIMIT, DEFAULT_LIST_LIMIT)
        order = request.query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise invalid_value("order", order, "'asc' and 'desc'")
        cursor = request.query.get("after")
        after = await self._find(request, cursor, "after") if cursor else None

        def look() -> list[FileRecord]:
            found = self._storage.files.list(
                request.key.key_id,
                self._clock(),
                after=after,
                newest_first=order == "desc",
                purpose=request.query.get("purpose"),
            )
            return list(islice(found, limit + 1))

        files = await self._storage.run(look)
        return Response(200, list_page([file_object(record) for record in files], limit))

    async def retrieve(self, request: Request) -> Response:
        """What is known of a file."""
        return Response(200, orjson.dumps(file_object(await self._named(request))))

    async def content(self, request: Request) -> Response:
        """A file's bytes."""
        record = await self._named(request)
        first = await self._range(record, 0)  # before the answer begins, so that its failure is an error and no stub
        return Response(200, self._pieces(record, first), {"content-type": "application/octet-stream"})

    async def delete(self, request: Request) -> Response:
        """Delete a file, unless a batch still reads it."""
        record = await self._named(request)
        for attempt in (1, 2):
            try:
                await self._storage.run(self._storage.files.delete, record)
                break
            except FileInUseError as error:
                message = (
                    f"File {record.file_id} is the input of {error.batch_id}, which has not ended. Cancel it first."
                )
                raise ApiError(409, message, "file_in_use", "file_id") from error
            except ConditionFailedError:  # deleted meanwhile, or a batch began with it
                record = await self._named(request)
                if attempt == 2:
                    raise ApiError(409, f"File {record.file_id} changes too fast.", "file_in_use", "file_id") from None
        await self._storage.run(self._storage.objects.delete, file_key(record.file_id))
        return Response(200, orjson.dumps({"id": record.file_id, "object": "file", "deleted": True}))

    async def _read_form(self, request: Request, writer: FileWriter) -> _Form:
        form = _Form()
        try:
            parser = FormParser(request.headers.get("content-type", ""))
            async for piece in request.body:
                for event in parser.feed(piece):
                    if isinstance(event, FieldStart):
                        form.begin(event)
                    elif isinstance(event, FieldEnd):
                        form.end()
                    elif form.in_file:
                        if writer.size + len(event) > MAX_FILE_BYTES:
                            message = f"The file is larger than {MAX_FILE_BYTES} bytes, the most that is allowed."
                            raise ApiError(413, message, "file_too_large", "file")
                        if writer.add(event):
                            await self._storage.run(writer.write_part)
                    else:
                        form.add(event)
            parser.finish()
        except FormError as error:
            raise ApiError(400, f"The body is no valid form: {error}.", "invalid_form") from error
        form.check()
        return form

    async def _named(self, request: Request) -> FileRecord:
        return await self._find(request, request.path_parameters["file_id"], "id")

    async def _find(self, request: Request, file_id: str, param: str) -> FileRecord:
        record = await self._storage.run(self._storage.files.get, request.key.key_id, file_id, self._clock())
        if record is None:
            raise no_such_file(file_id, param)
        return record

    async def _range(self, record: FileRecord, start: int) -> bytes:
        end = min(start + RANGE_BYTES, record.bytes)
        if start == end:
            return b""
        return await self._storage.run(self._storage.objects.read_range, file_key(record.file_id), start, end)

    async def _pieces(self, record: FileRecord, first: bytes) -> AsyncIterator[bytes]:
        piece, start = first, 0
        while piece:
            yield piece
            start += len(piece)
            piece = await self._range(record, start)


@dataclass
class _Form:
    """What a form holds beside the bytes of its file."""

    values: dict[str, str] = field(default_factory=dict[str, str])
    filename: str = ""
    has_file: bool = False
    in_file: bool = False
    _name: str = ""
    _content: bytearray = field(default_factory=bytearray)

    def begin(self, start: FieldStart) -> None:
        self._name = start.name
        self._content.clear()
        self.in_file = start.name == "file"
        if self.in_file:
            if self.has_file:
                raise ApiError(400, "The form has two fields named 'file'.", "invalid_form", "file")
            self._check_purpose()  # known already where it came first, as clients send it: nothing is stored in vain
            self.has_file = True
            self.filename = start.filename or ""

    def add(self, content: bytes) -> None:
        self._content += content
        if len(self._content) > MAX_FIELD_BYTES:
            message = f"The field {self._name[:80]!r} is longer than {MAX_FIELD_BYTES} bytes."
            raise ApiError(400, message, "invalid_form")

    def end(self) -> None:
        if not self.in_file:
            self.values[self._name] = self._content.decode("utf-8", "replace")
        self.in_file = False

    def check(self) -> None:
        if not self.has_file:
            raise missing_parameter("file")
        if "purpose" not in self.values:
            raise missing_parameter("purpose")
        self._check_purpose()

    def checked_keep_s(self) -> int:
        """How long the file is kept: 30 days, or what expires_after says."""
        text = self.values.get("expires_after[seconds]")
        return (
            KEEP_S
            if text is None
            else whole_number({"expires_after": text}, "expires_after", KEEP_S, KEEP_S, LEAST_KEEP_S)
        )

    def _check_purpose(self) -> None:
        if self.values.get("purpose", "batch") != "batch":
            raise invalid_value("purpose", self.values["purpose"], "'batch'")


def file_object(record: FileRecord) -> dict[str, Any]:
    """OpenAI's File object."""
    return {
        "id": record.file_id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }


def list_page(objects: list[dict[str, Any]], limit: int) -> bytes:
    """OpenAI's list object of the first `limit`; that there are more is read off the rest."""
    shown = objects[:limit]
    return orjson.dumps(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(objects) > limit,
        }
    )


def whole_number(given: Any, name: str, default: int, most: int, least: int = 1) -> int:
    """A parameter as a number.

    Raises:
        ApiError: 400, it is none between `least` and `most`.
    """
    value = given.get(name)
    if value is None:
        return default
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        message = f"Invalid {name!r}: expected a whole number from {least} to {most}, but got {text[:40]!r} instead."
        raise ApiError(400, message, "invalid_value", name)
    return int(text)


def missing_parameter(name: str) -> ApiError:
    """400 for a parameter that must be there."""
    return ApiError(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)


def invalid_value(name: str, value: str, allowed: str) -> ApiError:
    """400 for a parameter that may be a few things only."""
    return ApiError(400, f"Invalid value: {value[:80]!r}. Supported values are: {allowed}.", "invalid_value", name)


def no_such_file(file_id: str, param: str) -> ApiError:
    """404; in the same words for a file that is another key's."""
    shown = file_id if FILE_ID.fullmatch(file_id) else file_id[:40]
    return ApiError(404, f"No such File object: {shown}", "not_found", param)
