"""Keeps the instance's entry in the registry fresh, and takes it out at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.json_log import JsonLog
from llm_fleet.registry import Registry, WorkerEntry


class Registration:
    """One entry. `entry` makes it anew for every write."""

    def __init__(self, registry: Registry, entry: Callable[[], WorkerEntry], every_s: float, log: JsonLog) -> None:
        self._registry = registry
        self._entry = entry
        self._every_s = every_s
        self._log = log
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="registration", daemon=True)

    def start(self) -> None:
        """Write the entry now, and keep writing it."""
        self._write()
        self._thread.start()

    def changed(self) -> None:
        """Write the entry at once: its state is another."""
        self._changed.set()

    def close(self) -> None:
        """Take the entry out. One that cannot be taken out expires."""
        self._closed.set()
        self._changed.set()
        if self._thread.ident is not None:  # else an earlier process of this instance may have left one
            self._thread.join()
        entry = self._entry()
        try:
            self._registry.remove(entry.pool, entry.worker_id)
        except (ClientError, BotoCoreError) as error:
            self._log.event("registry_entry_left", error=str(error))

    def _refresh(self) -> None:
        while True:
            self._changed.wait(self._every_s)
            self._changed.clear()
            if self._closed.is_set():
                return
            self._write()

    def _write(self) -> None:
        try:
            self._registry.put(self._entry())
        except (ClientError, BotoCoreError) as error:
            self._log.event("registry_entry_not_written", error=str(error))
