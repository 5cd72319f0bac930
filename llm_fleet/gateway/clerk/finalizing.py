"""Results into output and error file, in the order of the input. What is in them then stands, whatever comes later."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import asdict
from typing import Any, cast

import orjson

from llm_fleet.batches.batch_table import BatchTable
from llm_fleet.batches.file_objects import FileObjects
from llm_fleet.batches.ledger import BatchStatus
from llm_fleet.batches.records import BatchRecord, Counts, FileRecord, Usage, file_key, new_file_id
from llm_fleet.batches.results import Failure, Results, outcome_of, result_line
from llm_fleet.gateway.clerk.input_lines import read_lines
from llm_fleet.gateway.clerk.lease import Lease
from llm_fleet.gateway.clerk.patience import patiently

READ_AHEAD = 32
"""Results that are being fetched or wait for their turn: it bounds memory."""
EXPIRED = Failure("batch_expired", "This request could not be executed before the completion window expired.")
LOST = Failure("result_lost", "The result of this request was counted, and is no longer in the results bucket.")


class Finalizing:
    """Writes the files of batches and ends them. Calls raise what AWS's clients raise."""

    def __init__(self, batches: BatchTable, objects: FileObjects, results: Results, threads: Executor) -> None:
        self._batches = batches
        self._objects = objects
        self._results = results
        self._threads = threads

    def run(self, record: BatchRecord, ending: BatchStatus, lease: Lease, now: float) -> Counts:
        """Write the files that have lines and end the batch as `ending`; how its lines ended.

        Raises:
            LeaseLostError: the batch is no longer this clerk's.
            StoppedError: the clerk is to end.
        """
        output = _LineFile(self._objects, record, "output")
        error = _LineFile(self._objects, record, "error")
        usage = Usage()
        try:
            for line in self._lines(record, ending):
                lease.keep()
                if outcome_of(line) == "completed":
                    output.add(line)
                    usage += usage_of(line)
                else:
                    error.add(line)
            files = [file.finish(now) for file in (output, error) if file.lines]
        except BaseException:
            output.writer.abort()
            error.writer.abort()
            raise
        changes = {
            "output_file_id": output.file_id if output.lines else None,
            "error_file_id": error.file_id if error.lines else None,
            "completed": output.lines,
            "failed": error.lines,
            "usage": asdict(usage),
        }
        self._batches.end(record, lease.owner, ending, now, changes, files)
        return Counts(record.total, output.lines, error.lines)

    def _lines(self, record: BatchRecord, ending: BatchStatus) -> Iterator[bytes]:
        """The line of each request in order; of a cancelled batch, of those only that have a result."""
        ended = self._batches.lines(record).ended
        custom_ids = _CustomIds(self._objects, record)
        fetched: deque[tuple[int, Future[bytes | None] | None]] = deque()

        def first() -> Iterator[bytes]:
            line, future = fetched.popleft()
            found = future.result() if future else None
            if found is None and (future or ending == "expired"):
                found = result_line(record.batch_id, line, custom_ids.of(line), LOST if future else EXPIRED)
            if found is not None:
                yield found

        try:
            for line in range(record.total):
                # Only what is known to be there: without the right to list, S3 calls a missing key forbidden.
                fetched.append(
                    (line, self._threads.submit(self._fetch, record.batch_id, line) if ended[line] else None)
                )
                if len(fetched) >= READ_AHEAD:
                    yield from first()
            while fetched:
                yield from first()
        finally:
            for _, future in fetched:
                if future:
                    future.cancel()

    def _fetch(self, batch_id: str, line: int) -> bytes | None:
        return patiently(lambda: self._results.stored(batch_id, line))


class _CustomIds:
    """Of lines asked for in rising order, read off the input file, which is opened with the first."""

    def __init__(self, objects: FileObjects, record: BatchRecord) -> None:
        self._lines = read_lines(objects.read(file_key(record.input_file_id), record.input_bytes))

    def of(self, line: int) -> str:
        for each in self._lines:
            if each.line == line:
                return orjson.loads(each.content or b"")["custom_id"]
        raise EOFError(f"the input file ends before line {line}")


class _LineFile:
    """One file that a batch writes. Its id is new with each attempt, so that no attempt can spoil another's."""

    def __init__(self, objects: FileObjects, record: BatchRecord, name: str) -> None:
        self.file_id = new_file_id()
        self.writer = objects.writer(file_key(self.file_id))
        self.lines = 0
        self._record = record
        self._name = name

    def add(self, line: bytes) -> None:
        self.lines += 1
        if self.writer.add(line + b"\n"):
            self.writer.write_part()

    def finish(self, now: float) -> FileRecord:
        self.writer.finish()
        record = self._record
        return FileRecord(
            file_id=self.file_id,
            key_id=record.key_id,
            bytes=self.writer.size,
            created_at=int(now),
            filename=f"{record.batch_id}_{self._name}.jsonl",
            purpose="batch_output",
            expires_at=int(now) + record.output_keep_s,
        )


def usage_of(line: bytes) -> Usage:
    """The tokens that a completed line's answer reports, by chat's names for them or by those of responses."""
    body = orjson.loads(line)["response"]["body"]
    usage = _object(_object(body).get("usage"))
    into = _object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    out_of = _object(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    return Usage(
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        _count(into.get("cached_tokens")),
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        _count(out_of.get("reasoning_tokens")),
    )


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
