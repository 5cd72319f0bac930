"""Polls for open batches and dead letters and sets threads on them, whatever AWS does, until told to stop."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from llm_fleet.aws import client
from llm_fleet.batches.batch_table import BatchTable, LeaseLostError
from llm_fleet.batches.file_objects import FileObjects
from llm_fleet.batches.ledger import BatchLedger
from llm_fleet.batches.results import Results
from llm_fleet.batches.table import Table
from llm_fleet.gateway.clerk.carrying import Carrying
from llm_fleet.gateway.clerk.dead_letters import DeadLetters
from llm_fleet.gateway.clerk.enqueueing import Enqueueing
from llm_fleet.gateway.clerk.finalizing import Finalizing
from llm_fleet.gateway.clerk.lease import Lease, StoppedError
from llm_fleet.gateway.clerk.line_routing import LineRouter
from llm_fleet.gateway.clerk.pace import Pace
from llm_fleet.gateway.clerk.patience import AWS_ERRORS
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.json_log import JsonLog

BATCHES_AT_ONCE = 4
"""A small batch need not wait behind a big one's minute of sending or writing."""
CALLS_AT_ONCE = 16
"""To SQS and S3, over all batches."""
STOP_S = 5
"""How long a stop waits for steps to notice it; a call to AWS under way may take longer and is left."""


class Clerk:
    """One clerk. `clock` gives Unix seconds."""

    def __init__(
        self, settings: GatewaySettings, pace: Pace, log: JsonLog, clock: Callable[[], float] = time.time
    ) -> None:
        self.stop = threading.Event()
        self._pace = pace
        self._clock = clock
        self._log = log
        self._owner = secrets.token_hex(8)
        dynamodb = client("dynamodb", settings.region, connections=CALLS_AT_ONCE + BATCHES_AT_ONCE)
        s3 = client("s3", settings.region, connections=CALLS_AT_ONCE + BATCHES_AT_ONCE)
        sqs = client("sqs", settings.region, connections=CALLS_AT_ONCE + BATCHES_AT_ONCE)
        pools = settings.pools.values()
        calls = ThreadPoolExecutor(CALLS_AT_ONCE, "calls")
        router = LineRouter(settings)
        ledger = BatchLedger(dynamodb, settings.batch_table)
        results = Results(s3, settings.batch_results_bucket, ledger, clock)
        objects = FileObjects(s3, settings.batch_files_bucket)
        self._batches = BatchTable(Table(dynamodb, settings.batch_table))
        self._carrying = Carrying(
            self._batches,
            objects,
            Enqueueing(self._batches, objects, results, sqs, router, calls),
            Finalizing(self._batches, objects, results, calls),
            sqs,
            [pool.queue_url for pool in pools],
            router.models,
            pace,
            clock,
            log,
        )
        self._dead_letters = DeadLetters(sqs, [pool.dead_letter_queue_url for pool in pools], ledger, results, log)
        self._steps = ThreadPoolExecutor(BATCHES_AT_ONCE + 1, "steps")
        self._running: dict[str, Future[None]] = {}
        self._leases: dict[str, Lease] = {}
        self._due: dict[str, float] = {}
        """When a batch is looked at again, in time.monotonic()."""
        self._failures: dict[str, int] = {}

    def run(self) -> None:
        """Work until `stop` is set, then give the batches back."""
        self._log.event("clerk_started", owner=self._owner)
        while not self.stop.is_set():
            self.poll()
            self.stop.wait(self._pace.poll_s)
        self._steps.shutdown(wait=False, cancel_futures=True)
        wait(self._running.values(), STOP_S)
        for lease in tuple(self._leases.values()):
            self._release(lease)
        self._log.event("clerk_stopped", owner=self._owner)

    def poll(self) -> None:
        """Start a step of every batch that is open, due and not in one already; and a look at the dead letters."""
        try:
            batch_ids = set(self._batches.open_ids())
        except AWS_ERRORS as error:
            self._log.event("poll_failed", problem=str(error))
            return
        for known in (self._due, self._failures, self._leases):
            for gone in known.keys() - batch_ids - {_DEAD_LETTERS}:
                known.pop(gone, None)
        for batch_id in sorted(batch_ids):
            self._start(batch_id, lambda batch_id=batch_id: self._step(batch_id))
        self._start(_DEAD_LETTERS, self._look_at_dead_letters)

    def poll_and_wait(self) -> None:
        """A poll, and the end of the steps that it started."""
        self.poll()
        wait(self._running.values())

    def _start(self, name: str, step: Callable[[], float]) -> None:
        running = self._running.get(name)
        if (running and not running.done()) or time.monotonic() < self._due.get(name, 0):
            return
        self._running = {each: future for each, future in self._running.items() if not future.done()}
        self._running[name] = self._steps.submit(self._guarded, name, step)

    def _guarded(self, name: str, step: Callable[[], float]) -> None:
        """Run a step, which says in how many seconds it is due again; after a failure later and later."""
        try:
            wait_s = step()
            self._failures.pop(name, None)
        except (StoppedError, LeaseLostError):
            wait_s = 0
        except Exception as error:
            # One batch's trouble, of whatever kind, must not end the work on the others.
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            wait_s = min(self._pace.poll_s * 2 ** min(failures, 16), self._pace.back_off_s)
            self._log.event("step_failed", step=name, problem=repr(error)[:500], failures=failures, wait_s=wait_s)
        self._due[name] = time.monotonic() + wait_s

    def _step(self, batch_id: str) -> float:
        lease = self._leases.get(batch_id) or Lease(
            self._batches, batch_id, self._owner, self._pace.lease_s, self._clock, self.stop
        )
        record = lease.take()
        if record is None:
            self._leases.pop(batch_id, None)
            return self._pace.lease_s / 3
        self._leases[batch_id] = lease
        if self._carrying.carry(record, lease) is None:
            self._leases.pop(batch_id, None)
        return 0

    def _look_at_dead_letters(self) -> float:
        self._dead_letters.look()
        return self._pace.dead_letters_s

    def _release(self, lease: Lease) -> None:
        try:
            lease.give_back()
        except AWS_ERRORS as error:
            self._log.event("lease_kept", batch=lease.batch_id, problem=str(error))


_DEAD_LETTERS = "dead letters"
