"""One clerk at a time for a batch: a lease that is renewed while its clerk works, and lapses when it dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from llm_fleet.batches.batch_table import BatchTable, LeaseLostError
from llm_fleet.batches.records import BatchRecord


class StoppedError(Exception):
    """The clerk is to end; the step is left where it is, for the next clerk."""


class Lease:
    """A clerk's hold on one batch. Calls raise botocore's ClientError or BotoCoreError."""

    def __init__(
        self,
        table: BatchTable,
        batch_id: str,
        owner: str,
        lease_s: float,
        clock: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        self.batch_id = batch_id
        self.owner = owner
        self._table = table
        self._lease_s = lease_s
        self._clock = clock
        self._stop = stop
        self._renewed = 0.0

    def take(self) -> BatchRecord | None:
        """Take or renew it: the batch as it stands; None where another clerk has it."""
        self._renewed = time.monotonic()
        return self._table.lease(self.batch_id, self.owner, self._clock(), self._lease_s)

    def keep(self) -> None:
        """To be called all along a long step.

        Raises:
            LeaseLostError: another clerk has taken the batch.
            StoppedError: the clerk is to end.
        """
        if self._stop.is_set():
            raise StoppedError(self.batch_id)
        if time.monotonic() - self._renewed > self._lease_s / 3 and self.take() is None:
            raise LeaseLostError(self.batch_id)

    def give_back(self) -> None:
        """Let another clerk take the batch at once."""
        self._table.give_back(self.batch_id, self.owner)
