"""One message a line, to the queue of its pool. Progress is saved, so that a restart sends few of them twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from llm_fleet.batches.batch_table import BatchTable
from llm_fleet.batches.file_objects import FileObjects
from llm_fleet.batches.messages import LineMessage
from llm_fleet.batches.records import BatchRecord, file_key
from llm_fleet.batches.results import Failure, Results
from llm_fleet.gateway.clerk.input_lines import InputLine, read_lines
from llm_fleet.gateway.clerk.lease import Lease
from llm_fleet.gateway.clerk.line_routing import LineRouter
from llm_fleet.gateway.clerk.patience import FIRST_WAIT_S, TRIES, patiently

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

LINES_PER_STEP = 500
"""Between two saves of the progress: as many messages at most are sent twice after a crash, and twice is harmless."""
MESSAGES_PER_CALL = 10
"""SQS's most."""


class EnqueueError(Exception):
    """SQS refuses messages again and again."""


class Enqueueing:
    """Sends the messages of batches. Calls raise what AWS's clients raise."""

    def __init__(
        self,
        batches: BatchTable,
        objects: FileObjects,
        results: Results,
        sqs: SQSClient,
        router: LineRouter,
        threads: Executor,
    ) -> None:
        self._batches = batches
        self._objects = objects
        self._results = results
        self._sqs = sqs
        self._router = router
        self._threads = threads

    def run(self, record: BatchRecord, lease: Lease) -> BatchRecord:
        """Send what is not sent yet; the record as it is then.

        Raises:
            LeaseLostError: the batch is no longer this clerk's or was cancelled.
            StoppedError: the clerk is to end.
            EnqueueError: SQS refuses messages again and again.
        """
        pieces = self._objects.read(file_key(record.input_file_id), record.input_bytes, record.enqueued_bytes)
        lines = read_lines(pieces, record.enqueued_bytes, record.enqueued_lines)
        while record.enqueued_lines < record.total:
            lease.keep()
            step = _Step(record)
            for line in lines:
                self._place(step, line)
                if step.full:
                    break
            if step.lines == 0:
                raise EnqueueError(f"the input file ends after {record.enqueued_lines} of {record.total} lines")
            # list() waits for all of them and raises what any of them raised.
            list(self._threads.map(self._send, step.calls()))
            list(self._threads.map(self._refuse, step.refused))
            done = {"enqueued_lines": record.enqueued_lines + step.lines, "enqueued_bytes": step.end}
            record = self._batches.advance(record, lease.owner, done)
        return record

    def _place(self, step: _Step, line: InputLine) -> None:
        assert line.content is not None, "the file was validated"
        request: dict[str, Any] = orjson.loads(line.content)
        found = self._router.queue_url(step.record.endpoint, request["body"])
        step.add(line, request["custom_id"], found)

    def _refuse(self, refused: tuple[str, int, str, Failure]) -> None:
        patiently(lambda: self._results.record(*refused))

    def _send(self, call: tuple[str, list[str]]) -> None:
        queue_url, waiting = call
        reason = ""
        for attempt in range(TRIES):
            entries: Any = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(waiting)]
            answer = patiently(partial(self._sqs.send_message_batch, QueueUrl=queue_url, Entries=entries))
            failed = answer.get("Failed", [])
            if not failed:
                return
            waiting = [waiting[int(each["Id"])] for each in failed]
            reason = f"{failed[0].get('Code')}: {failed[0].get('Message')}"
            time.sleep(FIRST_WAIT_S * 2**attempt)
        raise EnqueueError(f"{queue_url} refuses messages, {reason}")


class _Step:
    """Lines whose messages are sent together."""

    def __init__(self, record: BatchRecord) -> None:
        self.record = record
        self.lines = 0
        self.end = record.enqueued_bytes
        self.messages: dict[str, list[str]] = {}
        self.refused: list[tuple[str, int, str, Failure]] = []

    @property
    def full(self) -> bool:
        return self.lines >= LINES_PER_STEP

    def add(self, line: InputLine, custom_id: str, found: str | Failure) -> None:
        self.lines += 1
        self.end = line.end
        record = self.record
        if isinstance(found, Failure):
            self.refused.append((record.batch_id, line.line, custom_id, found))
            return
        message = LineMessage(
            batch_id=record.batch_id,
            line=line.line,
            custom_id=custom_id,
            endpoint=record.endpoint,
            file_key=file_key(record.input_file_id),
            offset=line.offset,
            length=len(line.content or b""),
            deadline=record.window_ends_at,
        )
        self.messages.setdefault(found, []).append(message.to_body())

    def calls(self) -> Iterator[tuple[str, list[str]]]:
        """Queue and messages of each call."""
        for queue_url, bodies in self.messages.items():
            for start in range(0, len(bodies), MESSAGES_PER_CALL):
                yield queue_url, bodies[start : start + MESSAGES_PER_CALL]
