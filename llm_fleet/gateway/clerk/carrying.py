"""What is next for a batch, by its status. Each step may be repeated: whatever it died at, the next clerk goes on.

validating   -> failed | in_progress
in_progress  -> messages, counts -> finalizing
finalizing   -> completed | expired
cancelling   -> cancelled
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from llm_fleet.batches.batch_table import BatchTable
from llm_fleet.batches.file_objects import FileObjects
from llm_fleet.batches.ledger import BatchStatus
from llm_fleet.batches.records import BatchRecord, file_key
from llm_fleet.gateway.clerk.enqueueing import Enqueueing
from llm_fleet.gateway.clerk.finalizing import Finalizing
from llm_fleet.gateway.clerk.input_lines import read_lines
from llm_fleet.gateway.clerk.lease import Lease
from llm_fleet.gateway.clerk.pace import Pace
from llm_fleet.gateway.clerk.validation import validate
from llm_fleet.json_log import JsonLog

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient


class Carrying:
    """Moves batches on. Calls raise what AWS's clients raise, LeaseLostError, StoppedError and EnqueueError."""

    def __init__(
        self,
        batches: BatchTable,
        objects: FileObjects,
        enqueueing: Enqueueing,
        finalizing: Finalizing,
        sqs: SQSClient,
        queue_urls: Iterable[str],
        models: frozenset[str],
        pace: Pace,
        clock: Callable[[], float],
        log: JsonLog,
    ) -> None:
        self._batches = batches
        self._objects = objects
        self._enqueueing = enqueueing
        self._finalizing = finalizing
        self._sqs = sqs
        self._queue_urls = tuple(queue_urls)
        self._models = models
        self._pace = pace
        self._clock = clock
        self._log = log

    def carry(self, record: BatchRecord, lease: Lease) -> BatchRecord | None:
        """Do what can be done now; the record as it is then, None where the batch has ended."""
        if record.status == "validating":
            started = self._validate(record, lease)
            if started is None:
                return None
            record = started
        if record.status == "in_progress":
            record = self._run(record, lease)
        if record.status == "finalizing":
            return self._finish(record, cast("BatchStatus", record.ending), lease)
        if record.status == "cancelling" and self._settled(record):
            return self._finish(record, "cancelled", lease)
        return None if record.ended else record

    def _validate(self, record: BatchRecord, lease: Lease) -> BatchRecord | None:
        now = self._clock()
        if now >= record.window_ends_at:
            self._batches.end(record, lease.owner, "expired", now, {})
            self._log.event("batch_ended", batch=record.batch_id, status="expired", total=0)
            return None
        lines = read_lines(self._objects.read(file_key(record.input_file_id), record.input_bytes))
        found = validate(lines, record.endpoint, self._models, lease.keep)
        now = int(self._clock())
        if found.errors:
            errors = [asdict(error) for error in found.errors]
            self._batches.end(record, lease.owner, "failed", now, {"errors": errors})
            self._log.event("batch_ended", batch=record.batch_id, status="failed", errors=len(errors))
            return None
        started = {"status": "in_progress", "in_progress_at": now, "total": found.total, "model": found.model}
        self._log.event("batch_validated", batch=record.batch_id, lines=found.total)
        return self._batches.advance(record, lease.owner, started)

    def _run(self, record: BatchRecord, lease: Lease) -> BatchRecord:
        if record.enqueued_lines < record.total and self._clock() < record.window_ends_at:
            record = self._enqueueing.run(record, lease)
            self._log.event("batch_enqueued", batch=record.batch_id, lines=record.total)
        now = self._clock()
        if self._batches.counts(record).ended == record.total:
            ending = "completed"
        elif now >= record.window_ends_at:
            ending = "expired"
        else:
            return record
        change = {"status": "finalizing", "finalizing_at": int(now), "ending": ending}
        return self._batches.advance(record, lease.owner, change)

    def _finish(self, record: BatchRecord, ending: BatchStatus, lease: Lease) -> None:
        counts = self._finalizing.run(record, ending, lease, self._clock())
        self._log.event("batch_ended", batch=record.batch_id, status=ending, **asdict(counts))

    def _settled(self, record: BatchRecord) -> bool:
        """Whether a cancelled batch need not wait any longer for lines that workers are at."""
        waited_s = self._clock() - (record.cancelling_at or 0)
        if record.enqueued_lines == 0 or waited_s >= self._pace.cancel_wait_s:
            return True
        if self._batches.counts(record).ended == record.total:
            return True
        return waited_s >= 2 * self._pace.poll_s and not any(map(self._leased, self._queue_urls))

    def _leased(self, queue_url: str) -> bool:
        """Whether workers are at any message of the queue."""
        name = "ApproximateNumberOfMessagesNotVisible"
        answer = self._sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])
        return answer.get("Attributes", {}).get(name) != "0"
