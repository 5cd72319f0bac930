"""One client's connection: what came is acted on, and what takes too long is ended.

Requests of one connection are handled one at a time; what a client sends ahead is held up to READ_AHEAD_BYTES. Reading
goes on while a request is under way, because only a reader notices that its client has left.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

import httptools

from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.wire import heads
from llm_fleet.gateway.wire.call import Call
from llm_fleet.gateway.wire.limits import NEVER, body_too_large, head_too_large, shutting_down
from llm_fleet.gateway.wire.reading import HeadTooLargeError, MalformedError, RequestReader
from llm_fleet.json_log import JsonLog

if TYPE_CHECKING:
    from llm_fleet.gateway.wire.server import Server

READ_AHEAD_BYTES = 65_536
"""What a client may send ahead of its answers before it is read no further."""
FRAMING_FACTOR = 8
"""A chunked body may take so many times its limit on the wire: chunks of one byte are legal, endless extensions not."""


class Connection(RequestReader):
    """One client's connection. `deadline` is the one time-out that holds at present."""

    __slots__ = ("_advancing", "_ahead_bytes", "_current", "deadline", "ending", "stall_deadline", "transport")

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._current: Call | None = None
        self._ahead_bytes = 0
        self._advancing = self.ending = False
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
            self._refuse(head_too_large(self._server.limits.head_bytes))

    # What the parser tells first; all else is only noted, by RequestReader.

    def on_message_begin(self) -> None:
        server = self._server
        self._parsing = Call(self, server.steps, server.limits.first_body_bytes)
        self._head_bytes = 0
        if self._current is None:
            self.deadline = time.monotonic() + server.limits.head_s

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
        if isinstance(cause, HeadTooLargeError):
            refusal = head_too_large(self._server.limits.head_bytes)
        else:
            what = str(cause) if isinstance(cause, MalformedError) else str(error)
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
