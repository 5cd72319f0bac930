"""One proxied request: its place at an engine, its bytes there and back, and what happens when something fails.

Before the first byte has gone to the client, another instance is tried: after a refused or lost connection, an answer
of 500 and above, an answer cut short. That is why nothing is sent before it must be: a stream's head waits for its
first event (or the first sign of life that is due), and an answer that is not streamed is gathered up to BUFFER_BYTES,
which costs no time, because engines send it whole. After the first byte nothing is tried again: a broken stream ends
with an error event.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from llm_fleet.gateway.balancing import How, Lease
from llm_fleet.gateway.completions import Wanted
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.event_stream import EventStream
from llm_fleet.gateway.exchange_heads import decision_lines, request_lines
from llm_fleet.gateway.placing import Placing
from llm_fleet.gateway.usage import usage_in
from llm_fleet.gateway.waiting_room import Ticket
from llm_fleet.gateway.wire.call import Call
from llm_fleet.gateway.wire.engines import EngineConnection, Engines
from llm_fleet.gateway.wire.server import NEVER, shutting_down
from llm_fleet.json_log import JsonLog
from llm_fleet.registry import Engine
from llm_fleet.routing import NoRoute, Route, State

MAX_ATTEMPTS = 3
"""Instances that a request may try."""
BUFFER_BYTES = 1 << 20
"""Of an answer that is not streamed, gathered before its first byte goes out."""
KEEP_ALIVE_COMMENT = b": keep-alive\n\n"
"""Ignored by every reader of server-sent events; it shows proxies and clients that the stream lives."""
PASSED_ON = (b"accept", b"traceparent", b"tracestate", b"user-agent")
"""Headers that engines get from the client. A list of what passes, not of what does not: whatever a client puts its key
into never reaches an engine.
"""


@dataclass(frozen=True)
class ExchangeLimits:
    """Time-outs of an exchange, in seconds."""

    wait_s: float = 30.0
    """For a place, while the pool's engines are all taken."""
    flex_wait_s: float = 600.0
    """For a place, by requests that asked to be served when it suits; also while an empty pool is woken."""
    head_s: float = 600.0
    """To the first byte of an answer: a long completion that is not streamed takes all that time."""
    silence_s: float = 120.0
    """Between two pieces of an answer."""
    comment_s: float = 15.0
    """Between signs of life in a stream that is silent."""


@dataclass(frozen=True)
class Relays:
    """What every exchange works with."""

    placing: Placing
    engines: Engines
    limits: ExchangeLimits
    usd_per_output_token: Mapping[str, float | None]
    """By pool."""
    log: JsonLog
    """Where it stands what engines did to requests that failed."""


class Exchange:
    """The holder of a call from its route to the end of its answer. Every path out of it gives the lease back."""

    # Slots, and every one stored at once: a default of the class would be looked up the slow way at each reading.
    __slots__ = (
        "_begun",
        "_call",
        "_connecting",
        "_connection",
        "_events",
        "_gathered",
        "_last",
        "_last_at",
        "_lease",
        "_paused",
        "_relays",
        "_streams",
        "_ticket",
        "_tried",
        "attempts",
        "first_at",
        "leased_at",
        "pool",
        "reason",
        "role",
        "usage",
        "wanted",
        "worker_id",
    )

    def __init__(self, call: Call, wanted: Wanted, relays: Relays) -> None:
        self._call = call
        self._relays = relays
        self.wanted = wanted
        self.pool = self.role = self.reason = self.worker_id = ""
        self.attempts = 0
        self.leased_at: float | None = None
        self.first_at: float | None = None
        """When the first piece of the answer's body came."""
        self.usage: tuple[int, int] | None = None
        """Prompt and completion tokens, as the engine told them."""
        self._lease: Lease | None = None
        self._ticket: Ticket | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connection: EngineConnection | None = None
        self._tried: tuple[Engine, ...] = ()
        self._gathered: bytes | bytearray = b""
        self._streams = self._begun = self._paused = False
        self._last = b""
        self._events: EventStream | None = None
        self._last_at = 0.0

    @property
    def events(self) -> int:
        """Events of the stream that went to the client."""
        return 0 if self._events is None else self._events.count

    # A place.

    def take(self, route: Route) -> None:
        """Go to the pool that the rule chose: at once, or when it has room.

        Raises:
            ApiError: 503, the pool has no instance; 429, as many wait as may.
        """
        self._use(route)
        wanted = self.wanted
        if route.state == "ready":
            lease = self._relays.placing.balancer.take(route.pool, wanted.tokens, wanted.affinity)
            if lease is not None:
                self._leased(lease)
                return
        self._wait(route.state)

    def _use(self, route: Route) -> None:
        self.pool, self.role, self.reason = route.pool, route.role, route.reason

    def _wait(self, state: State) -> None:
        placing, limits, wanted = self._relays.placing, self._relays.limits, self.wanted
        flexible = wanted.priority == "batch"
        if state == "empty":
            wake_s = placing.waker.wake(self.pool)
            if not flexible:
                raise self._refusal(
                    503,
                    f"The pool {self.pool} has no instance that serves; one is being started.",
                    "pool_empty",
                    wake_s,
                )
        self._ticket = placing.room.enter(
            self.pool,
            wanted.tokens,
            wanted.affinity,
            wanted.priority,
            limits.flex_wait_s if flexible else limits.wait_s,
            self._leased,
            self._gave_up,
        )
        if self._ticket is None:
            raise self._room_refusal(f"As many requests wait for the pool {self.pool} as may.")

    def _gave_up(self) -> None:
        self._ticket = None
        self._refuse(self._room_refusal(f"No engine of the pool {self.pool} had room in time."))

    def _room_refusal(self, message: str) -> ApiError:
        return self._refusal(429, message, "pool_saturated", self._relays.placing.room.retry_after_s(self.pool))

    # To the engine.

    def _leased(self, lease: Lease) -> None:
        self._ticket = None
        self._lease = lease
        self.worker_id = lease.worker_id
        self.leased_at = now = time.monotonic()
        self.attempts += 1
        connection = self._relays.engines.idle(lease.engine, now)
        if connection is None:
            self._connecting = self._relays.engines.connect(lease.engine, self)
        else:
            self._send(connection, lease.engine, now)

    def connected(self, connection: EngineConnection) -> None:
        """A new connection to the engine is there."""
        self._connecting = None
        if self._lease is None:
            connection.drop()
        else:
            self._send(connection, self._lease.engine, time.monotonic())

    def refused(self, error: str) -> None:
        """The engine takes no connection."""
        self._connecting = None
        self._try_another("refused", error)

    def _send(self, connection: EngineConnection, engine: Engine, now: float) -> None:
        call = self._call
        self._connection = connection
        self._last_at = now
        limits = self._relays.limits
        call.connection.deadline = now + (limits.comment_s if self.wanted.stream else limits.head_s)
        begin = request_lines(self.wanted.endpoint.path, engine.host, engine.port)
        passed = b""
        for name in PASSED_ON:
            if name in call.headers:
                passed += b"%b: %b\r\n" % (name, call.headers[name])
        length, request_id = len(call.body), call.request_id.encode()
        head = b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n" % (begin, length, request_id, passed)
        connection.request(self, head, call.body)

    def lost(self, connection: EngineConnection, error: str) -> None:
        """The engine's connection ended too early."""
        if connection is not self._connection:
            return
        self._connection = None
        lease = self._lease
        if lease is not None and connection.used and not connection.status and not self._begun:
            # It was idle and the engine closed it as we wrote: no fault of the engine, which never saw the request.
            self._forget_answer()
            self._connecting = self._relays.engines.connect(lease.engine, self)
        else:
            self._try_another("failed", error)

    def _try_another(self, how: How, error: str) -> None:
        """The engine failed. Another one takes the request, unless the client has seen a part of its answer."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        self._tried += (lease.engine,)
        lease.done(how)
        if self._begun:
            self._break_off(ApiError(502, "The engine broke off in the middle of its answer.", "engine_failed"))
            self._log_failure(lease, error)
            return
        self._forget_answer()
        try:
            if self.attempts < MAX_ATTEMPTS and self._elsewhere():
                return
        except ApiError as refusal:
            self._refuse(refusal)
            return
        message = f"The engine failed, and so did {len(self._tried) - 1} others before it."
        if len(self._tried) == 1:
            message = "The engine failed, and no other one can take the request."
        status, code = (503, "engine_unavailable") if how == "refused" else (502, "engine_failed")
        self._refuse(self._refusal(status, message, code, 1.0 if how == "refused" else None))
        self._log_failure(lease, error)

    def _log_failure(self, lease: Lease, error: str) -> None:
        """What the engine did before the client was told of it; the client comes first."""
        with contextlib.suppress(OSError, ValueError):  # nobody reads the log any more
            self._relays.log.event(
                "engine_failed",
                request_id=self._call.request_id,
                pool=lease.pool,
                worker_id=lease.worker_id,
                port=lease.engine.port,
                attempts=self.attempts,
                error=error,
            )

    def _forget_answer(self) -> None:
        """What came of an answer that will not be whole."""
        self._gathered = b""
        self._events = None
        self.first_at = None

    def _elsewhere(self) -> bool:
        """Whether an engine that has not failed this request takes it: of its pool, else of one that may stand in."""
        placing, wanted = self._relays.placing, self.wanted
        lease = placing.balancer.take(self.pool, wanted.tokens, wanted.affinity, self._tried)
        if lease is None:
            state = placing.balancer.state(self.pool)
            route = placing.choose_but(wanted, saturated=self.pool)
            if not isinstance(route, NoRoute) and route.state == "ready":
                lease = placing.balancer.take(route.pool, wanted.tokens, wanted.affinity, self._tried)
                if lease is not None:
                    self._use(route)
            if lease is None and state != "ready":
                self._wait(state)
                return True
        if lease is not None:
            self._leased(lease)
        return lease is not None

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

    def _elsewhere_now(self) -> bool:
        try:
            return self._elsewhere()
        except ApiError:
            return False

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

    def _leave(self, how: How) -> None:
        """Give back everything that is held."""
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave(self, self._paused)
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.done(how)

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

    def _refusal(self, status: int, message: str, code: str, retry_s: float | None) -> ApiError:
        headers = {"x-llm-fleet-pool": self.pool, "x-llm-fleet-reason": self.reason}
        return ApiError(status, message, code, headers=headers if retry_s is None else headers | retry_after(retry_s))

    def _refuse(self, error: ApiError) -> None:
        self._call.refuse(error)


_SSE = b"text/event-stream"
