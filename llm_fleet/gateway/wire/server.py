"""The client's side of the wire: connections, their limits and their time-outs.

Requests of one connection are handled one at a time; what a client sends ahead is held up to READ_AHEAD_BYTES. Reading
goes on while a request is under way, because only a reader notices that its client has left.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import httptools

from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.wire import heads
from llm_fleet.gateway.wire.call import Call, Step
from llm_fleet.json_log import JsonLog

READ_AHEAD_BYTES = 65_536
"""What a client may send ahead of its answers before it is read no further."""
FRAMING_FACTOR = 8
"""A chunked body may take so many times its limit on the wire: chunks of one byte are legal, endless extensions not."""
NEVER = float("inf")


@dataclass(frozen=True)
class WireLimits:
    """Bounds of what clients may hold. Times are seconds."""

    connections: int = 4096
    head_bytes: int = 32_768
    head_s: float = 15.0
    """From the first byte of a head to its end."""
    body_silence_s: float = 30.0
    """Between two pieces of a body."""
    idle_s: float = 910.0
    """Longer than the load balancer keeps an idle connection (900): the one that closes first must be the balancer."""
    stalled_s: float = 120.0
    """How long a client may leave unread what was written to it."""
    linger_s: float = 5.0
    """How long a body is read away after its request was refused: a reset would destroy the answer."""
    first_body_bytes: int = 1 << 20
    """Of a body before its route is known: what came in one read with its head."""
    check_every_s: float = 1.0
    """Time-outs are checked this often, for all connections at once: cheaper than a timer for each."""
    buffered_bytes: int = 512 << 20
    """All request bodies held at one time."""


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


class Connection(asyncio.Protocol):
    """One client's connection. `deadline` is the one time-out that holds at present."""

    __slots__ = (
        "_advancing",
        "_ahead_bytes",
        "_current",
        "_head_bytes",
        "_lingers",
        "_parser",
        "_parsing",
        "_received_bytes",
        "_server",
        "_waiting",
        "deadline",
        "ending",
        "stall_deadline",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser: httptools.HttpRequestParser | None = None
        self._parsing: Call | None = None
        self._current: Call | None = None
        self._waiting: list[Call] = []
        self._head_bytes = self._received_bytes = self._ahead_bytes = 0
        self._advancing = self._lingers = False
        self.ending = False
        self.deadline = self.stall_deadline = NEVER

    @property
    def log(self) -> JsonLog:
        """Where faults of ours go."""
        return self._server.log

    @property
    def busy(self) -> bool:
        """Whether a request is under way or coming in."""
        return self._current is not None or self._parsing is not None

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        self.transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        server.connections.add(self)
        self.ending = server.draining
        self.deadline = time.monotonic() + server.limits.idle_s
        if len(server.connections) > server.limits.connections:
            message = f"The gateway holds {server.limits.connections} connections, as many as it may."
            self._refuse(ApiError(503, message, "too_many_connections", headers=retry_after(1)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._parser = None
        self.ending = True
        current, self._current, self._waiting, self._parsing = self._current, None, [], None
        if current is not None:
            current.client_left()

    def pause_writing(self) -> None:
        self.stall_deadline = time.monotonic() + self._server.limits.stalled_s
        if self._current is not None and self._current.holder is not None:
            self._current.holder.pause()

    def resume_writing(self) -> None:
        self.stall_deadline = NEVER
        if self._current is None:
            self._advance()
        elif self._current.holder is not None:
            self._current.holder.resume()

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            return
        self._received_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._malformed(error)
            return
        current = self._current
        if current is not None:
            self._goes_on(current, len(data))
        elif self._waiting:
            self._advance()
            if self._waiting:
                self._note_ahead(len(data))
        elif self._received_bytes > self._server.limits.head_bytes:
            self._refuse(_head_too_large(self._server.limits.head_bytes))

    # What the parser tells. Only noted here: data_received acts on it, outside of the parser.

    def on_message_begin(self) -> None:
        server = self._server
        self._parsing = Call(self, server.steps, server.limits.first_body_bytes)
        self._head_bytes = 0
        if self._current is None:
            self.deadline = time.monotonic() + server.limits.head_s

    def on_url(self, url: bytes) -> None:
        call = self._parsing
        assert call is not None
        call.target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        call = self._parsing
        assert call is not None
        if call.accepted_at:
            return  # a trailer: nothing in it may change what the head said
        self._head_bytes += len(name) + len(value) + 4
        name = name.lower()
        headers = call.headers
        if name in headers:
            if name in _SINGLE:
                raise _MalformedError(f"the header {name.decode('latin-1')} stands there twice")
            value = headers[name] + b", " + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        call, parser = self._parsing, self._parser
        assert call is not None
        assert parser is not None
        headers = call.headers
        call.accepted_at = time.monotonic()
        call.method = parser.get_method().decode()
        call.keep_alive = parser.should_keep_alive()
        if not call.keep_alive or b"connection" in headers or b"host" not in headers:
            call.http_1_0 = parser.get_http_version() == "1.0"
            call.keep_alive = call.keep_alive and not call.http_1_0
            if b"host" not in headers and not call.http_1_0:
                raise _MalformedError("the header host is missing")
        if b"transfer-encoding" in headers and (call.http_1_0 or b"content-length" in headers):
            raise _MalformedError("the length of the body is ambiguous")
        if call.method == "CONNECT" or (b"upgrade" in headers and parser.should_upgrade()):
            raise _MalformedError("upgrades and tunnels are not served")
        if self._head_bytes > self._server.limits.head_bytes:
            raise _HeadTooLargeError
        self._received_bytes = 0
        self._waiting.append(call)

    def on_body(self, piece: bytes) -> None:
        assert self._parsing is not None
        self._parsing.receive(piece)

    def on_message_complete(self) -> None:
        assert self._parsing is not None
        self._parsing.complete = True
        self._parsing = None

    # What came, acted on.

    def _advance(self) -> None:
        """Start requests, one after the other, until one takes its time or the client does not read its answers."""
        if self._advancing:
            return
        self._advancing = True
        while self._current is None and self._waiting and self.stall_deadline == NEVER:
            call = self._current = self._waiting.pop(0)
            self.deadline = NEVER if call.complete else time.monotonic() + self._server.limits.body_silence_s
            call.proceed()
        self._advancing = False
        if self._ahead_bytes and not self._waiting:  # not before: each answer would let in another piece of them
            self._ahead_bytes = 0
            self.transport.resume_reading()

    def _goes_on(self, call: Call, size: int) -> None:
        """More came while a request is under way: of its body, or sent ahead of its answer."""
        limits = self._server.limits
        if call.answered:
            if call.complete:
                self.close()
        elif call.body_bytes > call.max_body_bytes:
            call.refuse(body_too_large(call.max_body_bytes))
        elif self._server.buffered_bytes > limits.buffered_bytes and call.buffered_bytes:
            message = "The gateway holds as many request bodies as it may."
            call.refuse(ApiError(503, message, "overloaded", headers=retry_after(1)))
        elif not call.complete:
            self.deadline = time.monotonic() + limits.body_silence_s
            if self._received_bytes > FRAMING_FACTOR * call.max_body_bytes + READ_AHEAD_BYTES:
                call.refuse(body_too_large(call.max_body_bytes))
        elif call.awaits_body:
            call.awaits_body = False
            self.deadline = NEVER
            call.proceed()
        elif call.sink is not None:
            sink, call.sink = call.sink, None
            self.deadline = NEVER
            sink(b"")
        else:
            self._note_ahead(size)

    def _note_ahead(self, size: int) -> None:
        """So much came that has to wait."""
        self._ahead_bytes += size
        if self._ahead_bytes > READ_AHEAD_BYTES:
            self.transport.pause_reading()

    def call_ended(self, call: Call) -> None:
        """The answer of the current call is written."""
        if not call.complete:  # read away what still comes of its body: a reset would destroy the answer
            self.ending = True
            self.deadline = time.monotonic() + self._server.limits.linger_s
            self.transport.resume_reading()
            return
        if not call.keep_alive or self.ending:
            self.close()
            return
        self._current = None
        limits = self._server.limits
        self.deadline = call.ended_at + (limits.idle_s if self._parsing is None else limits.head_s)
        self._received_bytes = 0
        if self._waiting or self._ahead_bytes:
            self._advance()

    def buffered(self, call: Call, size: int) -> None:
        """So many bytes of a body are held in memory."""
        call.buffered_bytes += size
        self._server.buffered_bytes += size

    def released(self, call: Call) -> None:
        """The body of a call is held no longer."""
        self._server.buffered_bytes -= call.buffered_bytes
        call.buffered_bytes = 0

    def expired(self, now: float) -> None:
        """A time-out has passed."""
        current = self._current
        if self.stall_deadline < now or (self.ending and (current is None or current.answered)):
            self.cut()
        elif current is not None and current.complete:
            self.deadline = NEVER
            if current.holder is not None:
                current.holder.expired(now)
        elif current is not None:
            silence_s = self._server.limits.body_silence_s
            current.refuse(ApiError(408, f"Nothing of the body came for {silence_s:g} s.", "request_timeout"))
        elif self._parsing is not None:
            head_s = self._server.limits.head_s
            self._refuse(ApiError(408, f"The head was not complete after {head_s:g} s.", "request_timeout"))
        else:
            self.close()

    def close(self) -> None:
        """Send what is written, then close."""
        self.ending = True
        self.deadline = time.monotonic() + self._server.limits.linger_s
        self.transport.close()

    def cut(self) -> None:
        """Close at once; what is not sent yet is lost."""
        self.ending = True
        self.transport.abort()

    def end_call(self) -> None:
        """The gateway ends: answer the current call now."""
        current = self._current
        if current is None or current.answered:
            return
        if current.holder is not None:
            current.holder.cut()
        else:
            current.refuse(shutting_down())

    def _malformed(self, error: Exception) -> None:
        self._parser = None
        cause = error.__context__
        if isinstance(cause, _HeadTooLargeError):
            refusal = _head_too_large(self._server.limits.head_bytes)
        else:
            what = str(cause) if isinstance(cause, _MalformedError) else str(error)
            refusal = ApiError(400, f"This is no valid HTTP request: {what}.", "malformed_request")
        call = self._current or (self._waiting.pop(0) if self._waiting else None)
        if call is None:
            self._refuse(refusal)
        elif call.complete:  # only what was sent ahead is broken: this one is answered first
            self.ending = True
            if self._current is None:
                self._current = call
                call.proceed()
        else:
            self._current = call
            call.refuse(refusal)

    def _refuse(self, error: ApiError) -> None:
        """Answer where there is no call yet, and close when the client has had time to read it."""
        self._parser = None
        body = error.body()
        headers = b"content-type: application/json\r\n" + heads.header_lines(error.headers)
        length = b"content-length: %d\r\n" % len(body)
        self.transport.write(heads.status_line(error.status) + headers + length + heads.CLOSE + b"\r\n" + body)
        self.transport.write_eof()
        self.ending = True
        self.deadline = time.monotonic() + self._server.limits.linger_s


class _MalformedError(Exception):
    """The request is valid to the parser, and not to us."""


class _HeadTooLargeError(Exception):
    """The head passed its limit."""


_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"expect"})
"""Headers that may stand there once: two of them mean that two readers would understand two requests."""


def body_too_large(limit_bytes: int) -> ApiError:
    """413, naming the limit."""
    return ApiError(413, f"The body is larger than {limit_bytes} bytes, the limit here.", "request_too_large")


def shutting_down() -> ApiError:
    """503 of a gateway that ends."""
    return ApiError(503, "The gateway is shutting down; another one answers.", "shutting_down", headers=retry_after(1))


def _head_too_large(limit_bytes: int) -> ApiError:
    return ApiError(431, f"The head is larger than {limit_bytes} bytes, the limit.", "headers_too_large")
