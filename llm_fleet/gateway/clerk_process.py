"""The batch clerk as a child process: started again when it ends, ended with the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from llm_fleet.json_log import JsonLog

COMMAND = (sys.executable, "-m", "llm_fleet.gateway.clerk")
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Between two starts, doubled each time; after a run longer than this it begins anew."""
STOP_S = 10.0
"""It hands its batches back within this; then it is killed, and their leases expire."""


class ClerkProcess:
    """The supervisor. It has the gateway's environment and standard output."""

    def __init__(self, log: JsonLog) -> None:
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it in the background of the running loop."""
        self._task = asyncio.create_task(self._supervise(), name="clerk")

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _supervise(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(*COMMAND, stdin=asyncio.subprocess.DEVNULL)
            self._log.event("clerk_started", pid=self._process.pid)
            code = await self._process.wait()
            if time.monotonic() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            self._log.event("clerk_ended", exit_code=code, again_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
