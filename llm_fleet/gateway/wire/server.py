"""Every connection of clients: accepted, looked after once a second, ended."""

from __future__ import annotations

import asyncio
import time

from llm_fleet.gateway.wire.call import Step
from llm_fleet.gateway.wire.connection import Connection
from llm_fleet.gateway.wire.limits import WireLimits
from llm_fleet.json_log import JsonLog


class Server:
    """Every connection of the gateway. `steps` are the first layers of each call."""

    def __init__(self, steps: tuple[Step, ...], limits: WireLimits, log: JsonLog) -> None:
        self.steps = steps
        self.limits = limits
        self.log = log
        self.connections: set[Connection] = set()
        self.draining = False
        self.buffered_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; the port, which the system chooses where 0 is asked for."""
        self._listener = await self._loop.create_server(lambda: Connection(self), host, port, backlog=2048)
        self._timer = self._loop.call_later(self.limits.check_every_s, self._check)
        return self._listener.sockets[0].getsockname()[1]

    async def drain(self, at_most_s: float, idle_s: float = 1.0) -> None:
        """Accept no more, finish what runs, then cut it. Idle connections get `idle_s` for a last request."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for each in self.connections:
            each.ending = True
        begun = time.monotonic()
        while self.connections and time.monotonic() < begun + at_most_s:
            if time.monotonic() >= begun + idle_s or not any(each.busy for each in self.connections):
                for each in [each for each in self.connections if not each.busy]:
                    each.close()
            await asyncio.sleep(0.05)
        for each in list(self.connections):
            each.end_call()
        await asyncio.sleep(0.2 if self.connections else 0)
        for each in list(self.connections):
            each.cut()
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = self._loop.call_later(self.limits.check_every_s, self._check)
        now = time.monotonic()
        for each in [each for each in self.connections if each.deadline < now or each.stall_deadline < now]:
            try:
                each.expired(now)
            except Exception as error:  # one connection's fault must not keep the others from their time-outs
                self.log.fault(error)
                each.cut()
