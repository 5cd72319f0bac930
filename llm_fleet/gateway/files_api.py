"""OpenAI's Files endpoints, for files of batches: upload, list, retrieve, content, delete.

A file's name is kept and shown, and used for nothing: where a file lies is made of its id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

import orjson

from llm_fleet.batches.file_objects import RANGE_BYTES, FileWriter
from llm_fleet.batches.file_table import FileInUseError
from llm_fleet.batches.records import FILE_ID, FileRecord, file_key, new_file_id
from llm_fleet.batches.table import ConditionFailedError
from llm_fleet.gateway.batch_storage import BatchStorage
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.http import Request, Response, Route
from llm_fleet.gateway.multipart import FieldEnd, FieldStart, FormError, FormParser
from llm_fleet.gateway.parameters import invalid_value, whole_number
from llm_fleet.gateway.upload_form import UploadForm

MAX_FILE_BYTES = 200 * 1024 * 1024
"""OpenAI's 200 MB, taken as whatever a client may mean by it."""
FORM_BYTES = 1024 * 1024
"""What a form may hold around its file."""
MAX_FILENAME_CHARACTERS = 255
MAX_UPLOADS = 8
"""At once: each takes some 20 MB of memory, two parts and what is on its way (measured)."""
UPLOAD_RETRY_AFTER_S = 10
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

    async def _read_form(self, request: Request, writer: FileWriter) -> UploadForm:
        form = UploadForm()
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


def no_such_file(file_id: str, param: str) -> ApiError:
    """404; in the same words for a file that is another key's."""
    shown = file_id if FILE_ID.fullmatch(file_id) else file_id[:40]
    return ApiError(404, f"No such File object: {shown}", "not_found", param)
