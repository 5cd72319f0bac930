"""One line, from message to result. Whatever happens, its lease ends, and the line has a result or comes again.

not worth running             deleted: its batch is over, or nobody wants the answer any more
answered (2xx, 4xx)           recorded, deleted
a fault of engine or line     given back, later each time; at the last receive recorded as failed, and buried
overload, drain, AWS faults   given back without counting against the line
not a line                    buried with the cause
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.batches.ledger import WORTH_RUNNING, BatchLedger, BatchStatus
from llm_fleet.batches.messages import LineMessage, NotALineError
from llm_fleet.batches.results import Answer, Failure, Results, outcome_of
from llm_fleet.json_log import JsonLog
from llm_fleet.worker.engine import CancelledError, EngineFaultError, Reply, UnreachableError
from llm_fleet.worker.lanes import Lanes, NoEngineError, OverloadedError
from llm_fleet.worker.leases import Lease, Leases
from llm_fleet.worker.line_body import BadLineError, request_of
from llm_fleet.worker.settings import Times

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

LONGEST_RETRY_DELAY_S = 300
LATER_STATUSES = (408, 425)
"""4xx that say nothing about the request itself."""

Report = Callable[[Answer | Failure, int, float], None]
"""Called with a line's result, its output tokens and the seconds it took."""


class Statuses:
    """Statuses of batches, a few seconds old at most: lines of one batch come in crowds."""

    def __init__(self, ledger: BatchLedger, max_age_s: float) -> None:
        self._ledger = ledger
        self._max_age_s = max_age_s
        self._known: dict[str, tuple[float, BatchStatus | None]] = {}
        self._lock = threading.Lock()

    def of(self, batch_id: str) -> BatchStatus | None:
        """The status; None where there is no such batch.

        Raises:
            ClientError, BotoCoreError: of DynamoDB.
        """
        now = time.monotonic()
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if known[0] > now - self._max_age_s}
            if batch_id in self._known:
                return self._known[batch_id][1]
        status = self._ledger.status(batch_id)
        with self._lock:
            self._known[batch_id] = (now, status)
        return status


class LineWork:
    """Does lines; one call of `do` a line, each in its own thread."""

    def __init__(
        self,
        *,
        leases: Leases,
        lanes: Lanes,
        ledger: BatchLedger,
        results: Results,
        s3: S3Client,
        files_bucket: str,
        times: Times,
        log: JsonLog,
        report: Report,
        stopping: threading.Event,
    ) -> None:
        """`stopping` is set when time is up: nothing is waited for any longer."""
        self._leases = leases
        self._lanes = lanes
        self._ledger = ledger
        self._results = results
        self._statuses = Statuses(ledger, times.status_cache_s)
        self._s3 = s3
        self._files_bucket = files_bucket
        self._times = times
        self._log = log
        self._report = report
        self._stopping = stopping

    def do(self, lease: Lease) -> None:
        """From lease to its end. Never raises."""
        try:
            message = LineMessage.from_body(lease.body)
        except NotALineError as error:
            self._log.event("not_a_line", message_id=lease.message_id, cause=str(error)[:80])
            self._leases.bury(lease, f"not_a_line: {error}")
            return
        try:
            self._work(lease, message)
        except CancelledError:
            self._leases.give_back_unharmed(lease, 0)
        except (OverloadedError, NoEngineError, UnreachableError, ClientError, BotoCoreError) as error:
            self._say("line_given_back", message, cause=str(error))
            self._leases.give_back_unharmed(lease, self._delay_s(lease))
        except EngineFaultError as fault:
            self._count_fault(lease, message, Failure(fault.code, str(fault)))
        except Exception as error:  # one line's surprise must not stop the others
            self._count_fault(lease, message, Failure("worker_error", f"{type(error).__name__}: {error}"[:200]))

    def _work(self, lease: Lease, message: LineMessage) -> None:
        status = self._statuses.of(message.batch_id)
        if status is None:
            self._say("no_such_batch", message)
            self._leases.bury(lease, f"no_such_batch: there is no batch {message.batch_id}")
        elif lease.receives > 1 and self._finish_earlier_work(message):
            self._leases.delete(lease)
        elif status not in WORTH_RUNNING or time.time() >= message.deadline:
            self._say("line_dropped", message, status=status)
            self._leases.delete(lease)
        else:
            self._run(lease, message)

    def _finish_earlier_work(self, message: LineMessage) -> bool:
        """Count a result that somebody stored and perhaps did not come to count."""
        stands = self._results.stored(message.batch_id, message.line)
        if stands is None:
            return False
        self._ledger.count(message.batch_id, message.line, outcome_of(stands), time.time())
        return True

    def _run(self, lease: Lease, message: LineMessage) -> None:
        started = time.monotonic()
        tokens = 0
        try:
            result, tokens = self._ask(message)
        except BadLineError as error:
            result = Failure("invalid_line", str(error))
        self._record(message, result)
        self._leases.delete(lease)
        self._report(result, tokens, time.monotonic() - started)

    def _ask(self, message: LineMessage) -> tuple[Answer | Failure, int]:
        """The engine's answer, and how many tokens it generated."""
        line = self._read(message)
        if line is None:
            return Failure("input_missing", f"the batch's input file {message.file_key} is gone"), 0
        timeout_s = min(self._times.answer_timeout_s, max(1.0, message.deadline - time.time()))
        reply = self._lanes.run(message.endpoint, request_of(line), timeout_s)
        return _answer_of(reply)

    def _read(self, message: LineMessage) -> bytes | None:
        part = f"bytes={message.offset}-{message.offset + message.length - 1}"
        try:
            return self._s3.get_object(Bucket=self._files_bucket, Key=message.file_key, Range=part)["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404", "InvalidRange", "416"):
                return None
            raise

    def _record(self, message: LineMessage, result: Answer | Failure) -> None:
        """Record, trying again for a while: an answer is too dear to be thrown away for a throttled call."""
        deadline = time.monotonic() + self._times.record_retry_s
        pause_s = 0.2
        while True:
            try:
                self._results.record(message.batch_id, message.line, message.custom_id, result)
                return
            except (ClientError, BotoCoreError) as error:
                if time.monotonic() > deadline or self._stopping.wait(pause_s):
                    raise
                self._say("result_not_recorded_yet", message, cause=str(error))
                pause_s = min(10.0, pause_s * 2)

    def _count_fault(self, lease: Lease, message: LineMessage, failure: Failure) -> None:
        if not self._leases.is_last(lease):
            self._say("line_given_back", message, cause=failure.code, receives=lease.receives)
            self._leases.give_back(lease, self._delay_s(lease))
            return
        try:
            self._record(message, failure)
        except (ClientError, BotoCoreError) as error:
            self._say("line_given_back", message, cause=str(error))
            self._leases.give_back_unharmed(lease, self._delay_s(lease))
            return
        self._say("line_failed", message, cause=failure.code, receives=lease.receives)
        self._leases.bury(lease, f"{failure.code}: {failure.message}")
        self._report(failure, 0, 0.0)

    def _delay_s(self, lease: Lease) -> float:
        """Doubled at each delivery, and never the same for two lines that failed together."""
        longest = self._times.retry_delay_s * 2 ** min(10, lease.receives)
        return min(LONGEST_RETRY_DELAY_S, longest * random.uniform(0.5, 1))

    def _say(self, event: str, message: LineMessage, **facts: object) -> None:
        self._log.event(event, batch_id=message.batch_id, line=message.line, **facts)


def _answer_of(reply: Reply) -> tuple[Answer, int]:
    """The reply as a result.

    Raises:
        EngineFaultError: its status or its body is none that a client could use.
    """
    answered = 200 <= reply.status < 300 or 400 <= reply.status < 500
    if not answered or reply.status in LATER_STATUSES:
        raise EngineFaultError("engine_error", f"the engine answered with status {reply.status}")
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError as error:
        raise EngineFaultError(
            "engine_answer_invalid", f"the engine's answer, status {reply.status}, is no JSON"
        ) from error
    request_id = reply.request_id or f"req_{uuid.uuid4().hex}"
    return Answer(reply.status, request_id, reply.body), _output_tokens(body)


def _output_tokens(body: object) -> int:
    usage = body.get("usage") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return tokens if isinstance(tokens, int) else 0
