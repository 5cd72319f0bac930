"""The engines' side of the wire: connections to engines, kept open and used again.

A connection carries one exchange at a time. What an engine sends is parsed only as far as to find the head and the end
of its message; pieces of the body go to the exchange as they came.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

import httptools

from llm_fleet.registry import Engine

CONNECT_S = 2.0
"""Engines are in the same network: one that takes longer is gone or drowning."""
MARGIN = 0.8
"""Share of the engine's keep-alive after which an idle connection is not used again: a request that meets the engine's
closing half-way is lost and must be sent twice.
"""
MAX_IDLE_PER_ENGINE = 1024
"""Idle connections kept for one engine."""
CHECK_EVERY_S = 1.0


class Receiver(Protocol):
    """Who sent a request and gets the answer."""

    def received(self, connection: EngineConnection, piece: bytes, complete: bool) -> None:
        """A piece of the answer; its status and headers stand in the connection. The first may be empty."""
        ...

    def lost(self, connection: EngineConnection, error: str) -> None:
        """The connection ended before the answer was whole."""
        ...

    def connected(self, connection: EngineConnection) -> None:
        """A new connection is there, for a request."""
        ...

    def refused(self, error: str) -> None:
        """There is no connection to be had."""
        ...


class Engines:
    """Connections to all engines."""

    def __init__(self, keep_alive_s: float) -> None:
        self._keep_alive_s = keep_alive_s * MARGIN
        self._idle: dict[Engine, list[EngineConnection]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(CHECK_EVERY_S, self._close_old)
        self.open_connections = 0

    def idle(self, engine: Engine, now: float) -> EngineConnection | None:
        """An open connection that waits for a request, the one used last first."""
        idle = self._idle.get(engine)
        oldest = now - self._keep_alive_s
        while idle:
            connection = idle.pop()
            if connection.heard_at > oldest and not connection.transport.is_closing():
                return connection
            connection.transport.abort()
        return None

    def connect(self, engine: Engine, receiver: Receiver) -> asyncio.Task[None]:
        """Open a connection and hand it to the receiver. Cancelling the task ends the attempt."""
        task = self._loop.create_task(self._connect(engine, receiver))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return task

    def keep(self, connection: EngineConnection) -> None:
        """Keep a connection whose exchange is over for the next one."""
        idle = self._idle.get(connection.engine)
        if idle is None:
            idle = self._idle[connection.engine] = []
        if len(idle) < MAX_IDLE_PER_ENGINE:
            idle.append(connection)
        else:
            connection.transport.close()

    def close(self) -> None:
        """Close what is idle and end every attempt to connect."""
        self._timer.cancel()
        for task in self._connecting:
            task.cancel()
        for idle in self._idle.values():
            for connection in idle:
                connection.transport.abort()
        self._idle.clear()

    async def _connect(self, engine: Engine, receiver: Receiver) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await self._loop.create_connection(
                    lambda: EngineConnection(self, engine), engine.host, engine.port
                )
        except TimeoutError:
            receiver.refused(f"no connection to {engine.host}:{engine.port} within {CONNECT_S:g} s")
        except OSError as error:
            receiver.refused(f"no connection to {engine.host}:{engine.port}: {error.strerror or error}")
        else:
            receiver.connected(connection)

    def _close_old(self) -> None:
        oldest = time.monotonic() - self._keep_alive_s
        for engine, idle in list(self._idle.items()):
            fresh = [connection for connection in idle if connection.heard_at > oldest]
            for connection in idle[: len(idle) - len(fresh)]:  # the oldest lie first
                connection.transport.abort()
            if fresh:
                self._idle[engine] = fresh
            else:
                del self._idle[engine]
        self._timer = self._loop.call_later(CHECK_EVERY_S, self._close_old)


class EngineConnection(asyncio.Protocol):
    """One connection to an engine. `status` and `headers` are of the answer that is coming in."""

    __slots__ = (
        "_complete",
        "_head_complete",
        "_keep_alive",
        "_parser",
        "_pieces",
        "_pool",
        "_receiver",
        "_until_close",
        "engine",
        "headers",
        "heard_at",
        "status",
        "transport",
        "used",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Engines, engine: Engine) -> None:
        self._pool = pool
        self.engine = engine
        self._parser: httptools.HttpResponseParser | None = None
        self._receiver: Receiver | None = None
        self._pieces: list[bytes] = []
        self._complete = self._head_complete = self._keep_alive = self._until_close = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.heard_at = 0.0
        """When something last came from the engine: one clock reading for all who need it."""
        self.used = False
        """Whether it has carried an exchange before the present one."""

    def request(self, receiver: Receiver, head: bytes, body: bytes | bytearray) -> None:
        """Send a request; the answer goes to the receiver."""
        self._receiver = receiver
        self._complete = self._head_complete = False
        self.status = 0
        if len(body) <= _JOIN_BYTES:
            self.transport.write(b"%b%b" % (head, body))
        else:
            self.transport.writelines((head, body))

    def drop(self) -> None:
        """Close at once: nobody wants the answer. The engine sees its client leave."""
        self._receiver = None
        self.transport.abort()

    def leave(self, receiver: Receiver, paused: bool) -> None:
        """The receiver wants no more. A connection in mid-answer is closed; one that is through is kept."""
        if self._receiver is receiver:
            self.drop()
        elif paused:
            self.transport.resume_reading()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._pool.open_connections += 1

    def data_received(self, data: bytes) -> None:
        receiver, parser = self._receiver, self._parser
        if receiver is None or parser is None:  # nothing was asked
            self.transport.abort()
            return
        self.heard_at = time.monotonic()
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._receiver = None
            self.transport.abort()
            receiver.lost(self, f"{self.engine.host}:{self.engine.port} sent no valid HTTP: {error}")
            return
        if not self._head_complete:
            return
        pieces = self._pieces
        if len(pieces) == 1:
            piece = pieces.pop()
        else:
            piece = b"".join(pieces)
            pieces.clear()
        if self._complete:
            self._receiver = None
            self.used = True
            if self._keep_alive:
                self._pool.keep(self)
            else:
                self.transport.close()
            receiver.received(self, piece, True)
        else:
            receiver.received(self, piece, False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.open_connections -= 1
        self._parser = None
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        self.heard_at = time.monotonic()
        if self._head_complete and self._until_close and exc is None:
            receiver.received(self, b"", True)
        else:
            where = f"{self.engine.host}:{self.engine.port}"
            receiver.lost(self, f"{where} closed the connection: {exc or 'end of file'}")

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._complete:
            raise _UnaskedError
        self.headers = {}
        self._head_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_complete:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self.status = parser.get_status_code()
        if self.status < 200:
            return  # "continue" and its like: the answer is still to come
        self._keep_alive = parser.should_keep_alive()
        self._until_close = b"content-length" not in self.headers and b"transfer-encoding" not in self.headers
        self._head_complete = True

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if self._head_complete:
            self._complete = True


class _UnaskedError(Exception):
    """The engine sent more than the answer."""


_JOIN_BYTES = 65_536
"""Head and body up to this are joined into one write: copying is cheaper than a second buffer."""
