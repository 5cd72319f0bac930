"""Takes messages while there is room for lines, and starts a thread for each."""

from __future__ import annotations

import threading
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.json_log import JsonLog
from llm_fleet.worker.leases import Lease, Leases

LOOK_AGAIN_S = 0.2
"""The limit may rise without a lease having ended."""
LONGEST_PAUSE_S = 30


class Intake:
    """One thread that long-polls. `stop` takes effect at once: what a poll under way still brings is given back."""

    def __init__(
        self,
        leases: Leases,
        wanted: Callable[[], int],
        do: Callable[[Lease], None],
        wait_s: int,
        log: JsonLog,
    ) -> None:
        self._leases = leases
        self._wanted = wanted
        self._do = do
        self._wait_s = wait_s
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to lease."""
        self._thread.start()

    def stop(self) -> None:
        """Lease nothing more."""
        self._stopped.set()
        self._leases.ended.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the poll under way."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = 1.0
        while not self._stopped.is_set():
            self._leases.ended.clear()
            room = self._wanted() - self._leases.held
            if room <= 0:
                self._leases.ended.wait(LOOK_AGAIN_S)
                continue
            try:
                taken = self._leases.receive(room, self._wait_s)
                pause_s = 1.0
            except (ClientError, BotoCoreError) as error:
                self._log.event("nothing_received", error=str(error))
                self._stopped.wait(pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                continue
            for lease in taken:
                if self._stopped.is_set():
                    self._leases.give_back_unharmed(lease, 0)
                else:
                    threading.Thread(target=self._do, args=(lease,), name="line", daemon=True).start()
