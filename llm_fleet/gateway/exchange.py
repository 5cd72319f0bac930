"""One proxied request: its bytes there and back, and what happens when something fails.

How it gets to an engine, and to another one before its first byte, stands in attempts.py. Nothing is sent before it
must be: a stream's head waits for its first event (or the first sign of life that is due), and an answer that is not
streamed is gathered up to BUFFER_BYTES, which costs no time, because engines send it whole. After the first byte
nothing is tried again: a broken stream ends with an error event.
"""

from __future__ import annotations

import time

from llm_fleet.gateway.attempts import MAX_ATTEMPTS, Attempts
from llm_fleet.gateway.balancing import Lease
from llm_fleet.gateway.completions import Wanted
from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.event_stream import EventStream
from llm_fleet.gateway.exchange_heads import decision_lines
from llm_fleet.gateway.relays import Relays
from llm_fleet.gateway.usage import usage_in
from llm_fleet.gateway.wire.call import Call
from llm_fleet.gateway.wire.engines import EngineConnection
from llm_fleet.gateway.wire.limits import NEVER, shutting_down

BUFFER_BYTES = 1 << 20
"""Of an answer that is not streamed, gathered before its first byte goes out."""
KEEP_ALIVE_COMMENT = b": keep-alive\n\n"
"""Ignored by every reader of server-sent events; it shows proxies and clients that the stream lives."""


class Exchange(Attempts):
    """The holder of a call from its route to the end of its answer. Every path out of it gives the lease back."""

    __slots__ = ("_last", "_streams", "usage")

    def __init__(self, call: Call, wanted: Wanted, relays: Relays) -> None:
        super().__init__(call, wanted, relays)
        self.usage: tuple[int, int] | None = None
        """Prompt and completion tokens, as the engine told them."""
        self._streams = False
        self._last = b""

    @property
    def events(self) -> int:
        """Events of the stream that went to the client."""
        return 0 if self._events is None else self._events.count

    # From the engine.

    def received(self, connection: EngineConnection, piece: bytes, complete: bool) -> None:
        """A piece of the answer, possibly empty."""
        try:
            if self._begun:
                self._pass_on(connection, piece, complete)
            elif connection is self._connection:
                self._begin(connection, piece, complete)
        except Exception as error:
            self._leave("failed")
            self._call.broke(error)

    def _begin(self, connection: EngineConnection, piece: bytes, complete: bool) -> None:
        """The answer has come so far, and the client has seen nothing of it."""
        status = connection.status
        lease = self._lease
        if lease is None:
            return
        self._last_at = now = connection.heard_at
        if piece and self.first_at is None:
            self.first_at = now
        if status >= 500 and lease.engine not in self._tried and self._another_than(lease, connection, complete):
            return
        if status < 500:
            lease.alive()
        if self.wanted.stream and self._may_stream(connection):
            self._events = events = self._events or EventStream()
            piece = events.take(piece, complete)
            if piece or complete:
                if self.first_at is None:
                    self.first_at = now
                self._begin_stream(connection, piece, complete)
            return
        limits = self._relays.limits
        if not self._gathered:  # and mostly the whole answer comes in this one piece
            self._gathered = piece
        else:
            self._gathered = bytearray(self._gathered) if isinstance(self._gathered, bytes) else self._gathered
            self._gathered += piece
        if complete:
            self._answer_whole(connection, status)
        elif len(self._gathered) > BUFFER_BYTES:
            self._begun = True
            piece = bytes(self._gathered)
            self._gathered = b""
            self._call.release_body()
            self._call.begin(status, self._headers(connection), piece)
            self._last = piece
            self._call.connection.deadline = now + limits.silence_s
        else:
            self._call.connection.deadline = now + limits.silence_s

    def _may_stream(self, connection: EngineConnection) -> bool:
        kind = connection.headers.get(b"content-type", b"")
        return connection.status == 200 and self.wanted.stream and kind.startswith(_SSE)

    def _another_than(self, lease: Lease, connection: EngineConnection, complete: bool) -> bool:
        """Whether another engine takes the request, after an answer of 500 and above. If not, the answer stands."""
        self._tried += (lease.engine,)
        lease.done("failed")
        self._lease = self._connection = None
        if self.attempts >= MAX_ATTEMPTS or not self._elsewhere_now():
            self._lease, self._connection = lease, connection
            return False
        self._forget_answer()
        if not complete:
            connection.drop()
        return True

    def _answer_whole(self, connection: EngineConnection, status: int) -> None:
        body = bytes(self._gathered)  # no copy of what came in one piece
        if status < 400:
            self.usage = usage_in(body)
        headers = self._headers(connection)
        self._leave("failed" if status >= 500 else "answered")
        self._call.answer(status, headers, body)

    def _begin_stream(self, connection: EngineConnection, piece: bytes, complete: bool) -> None:
        """The first events of a stream are there: no other engine can take it any more."""
        self._begun = self._streams = True
        self._events = self._events or EventStream()
        call = self._call
        call.release_body()
        headers = self._headers(connection) + b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
        if complete:
            call.begin(200, headers)
            self._end_stream(piece)
        else:
            call.begin(200, headers, piece)
            call.connection.deadline = self._last_at + self._relays.limits.comment_s

    def _pass_on(self, connection: EngineConnection, piece: bytes, complete: bool) -> None:
        """One more piece to the client, which has seen the beginning."""
        call, limits = self._call, self._relays.limits
        self._last_at = now = connection.heard_at
        if not self._streams:
            if piece:
                self._last = piece
            if complete:
                self.usage = usage_in(self._last)
                self._leave("answered")
                call.write_last(piece)
                return
            call.write(piece)
        else:
            assert self._events is not None
            piece = self._events.take(piece, complete)
            if piece and self.first_at is None:
                self.first_at = now
            if complete:
                self._end_stream(piece)
                return
            call.write(piece)
        if not self._paused:
            call.connection.deadline = now + (limits.comment_s if self._streams else limits.silence_s)

    def _end_stream(self, piece: bytes) -> None:
        events = self._events
        assert events is not None
        if self.wanted.endpoint.ends_with_done and not events.is_done:
            self._call.write(piece)
            self._leave("failed")
            self._break_off(ApiError(502, "The engine ended its stream without its end.", "engine_failed"))
            return
        self.usage = events.usage
        self._leave("answered")
        self._call.write_last(piece)

    def _break_off(self, error: ApiError) -> None:
        """End an answer that has begun: a stream with an error event, any other by cutting the connection."""
        self._call.error_code = error.code
        if self._streams:
            self._call.write_last(b"data: %b\n\n" % error.body())
        else:
            self._call.abort()

    # The client and the clock.

    def client_left(self) -> None:
        """Nobody waits any more: the engine sees its client leave, and stops."""
        self._leave("left")

    def pause(self) -> None:
        """The client reads slowly: so does the gateway."""
        self._paused = True
        self._call.connection.deadline = NEVER  # the connection watches for clients that stopped reading
        if self._connection is not None:
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        """The client caught up."""
        self._paused = False
        self._last_at = time.monotonic()
        self._call.connection.deadline = self._last_at + self._relays.limits.comment_s
        if self._connection is not None:
            self._connection.transport.resume_reading()

    def expired(self, now: float) -> None:
        """The engine has been silent."""
        limits, connection = self._relays.limits, self._connection
        if connection is None:
            return
        longest_s = limits.head_s if self.first_at is None else limits.silence_s
        left_s = self._last_at + longest_s - now
        if left_s <= 0:
            error = self._refusal(504, f"The engine sent nothing for {longest_s:g} s.", "engine_timeout", None)
            # Before its first byte it may only be slow, and slowness must not open its breaker.
            self._leave("left" if self.first_at is None else "failed")
            if self._begun:
                self._break_off(error)
            else:
                self._refuse(error)
            return
        if self._streams or self._may_stream(connection):
            if self._begun:
                self._call.write(KEEP_ALIVE_COMMENT)
            else:
                self._begin_stream(connection, KEEP_ALIVE_COMMENT, False)
        self._call.connection.deadline = now + min(limits.comment_s, left_s)

    def cut(self) -> None:
        """The gateway ends."""
        self._leave("left")
        if self._begun:
            self._break_off(shutting_down())
        else:
            self._refuse(shutting_down())

    # What the client reads of it.

    def _headers(self, connection: EngineConnection) -> bytes:
        headers = connection.headers
        price = self._relays.usd_per_output_token[self.pool]
        cost_usd = None if price is None else price * self.wanted.output_tokens
        decision = decision_lines(self.pool, self.reason, self.worker_id, cost_usd)
        lines = b"content-type: %b\r\n%b" % (headers.get(b"content-type", b"application/json"), decision)
        if b"retry-after" in headers:
            lines += b"retry-after: %b\r\n" % headers[b"retry-after"]
        return lines

    def cost_usd(self, completion_tokens: int) -> float | None:
        """By the pool's price of output tokens, which carries the cost of its instances."""
        price = self._relays.usd_per_output_token[self.pool] if self.pool else None
        return None if price is None else round(price * completion_tokens, 10)


_SSE = b"text/event-stream"
