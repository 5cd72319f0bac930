"""A call on its way to an engine: its pool, its place there, the request sent; and all again where an engine fails.

Before the first byte has gone to the client, another instance is tried: after a refused or lost connection, an answer
of 500 and above, an answer cut short.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod

from llm_fleet.gateway.balancing import How, Lease
from llm_fleet.gateway.completions import Wanted
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.event_stream import EventStream
from llm_fleet.gateway.exchange_heads import request_lines
from llm_fleet.gateway.relays import Relays
from llm_fleet.gateway.waiting_room import Ticket
from llm_fleet.gateway.wire.call import Call
from llm_fleet.gateway.wire.engines import EngineConnection
from llm_fleet.registry import Engine
from llm_fleet.routing import NoRoute, Route, State

MAX_ATTEMPTS = 3
"""Instances that a request may try."""
PASSED_ON = (b"accept", b"traceparent", b"tracestate", b"user-agent")
"""Headers that engines get from the client. A list of what passes, not of what does not: whatever a client puts its key
into never reaches an engine.
"""


class Attempts(ABC):
    """The half of an exchange that ends with a request sent. Every path out of it gives the lease back.

    A base class and no part: each call has both halves, and a second object would be made and asked for every one.
    """

    # Slots, and every one stored at once: a default of the class would be looked up the slow way at each reading.
    __slots__ = (
        "_begun",
        "_call",
        "_connecting",
        "_connection",
        "_events",
        "_gathered",
        "_last_at",
        "_lease",
        "_paused",
        "_relays",
        "_ticket",
        "_tried",
        "attempts",
        "first_at",
        "leased_at",
        "pool",
        "reason",
        "role",
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
        self._lease: Lease | None = None
        self._ticket: Ticket | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connection: EngineConnection | None = None
        self._tried: tuple[Engine, ...] = ()
        self._gathered: bytes | bytearray = b""
        """Of the answer, while the client has seen nothing of it."""
        self._events: EventStream | None = None
        self._begun = self._paused = False
        self._last_at = 0.0
        """When the engine was last heard, or written to."""

    @abstractmethod
    def received(self, connection: EngineConnection, piece: bytes, complete: bool) -> None:
        """A piece of the answer, possibly empty."""

    @abstractmethod
    def _break_off(self, error: ApiError) -> None:
        """End an answer that has begun."""

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
            self._tried,
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
            if lease is None and state == "ready" and placing.balancer.has_others(self.pool, self._tried):
                state = "saturated"  # what is free is the engine that failed: the others are only full
            if lease is None and state != "ready":
                self._wait(state)
                return True
        if lease is not None:
            self._leased(lease)
        return lease is not None

    def _elsewhere_now(self) -> bool:
        try:
            return self._elsewhere()
        except ApiError:
            return False

    # Out of it.

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

    def _refusal(self, status: int, message: str, code: str, retry_s: float | None) -> ApiError:
        headers = {"x-llm-fleet-pool": self.pool, "x-llm-fleet-reason": self.reason}
        return ApiError(status, message, code, headers=headers if retry_s is None else headers | retry_after(retry_s))

    def _refuse(self, error: ApiError) -> None:
        self._call.refuse(error)
