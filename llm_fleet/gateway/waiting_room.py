"""Where requests wait when no engine of their pool has a place: bounded, in order, for a bounded time.

Order in a pool: realtime, default, batch; first come first served within each. A batch request (`service_tier` flex)
that waited AGES_AFTER_S joins the end of the default line, so nothing but realtime traffic can hold it back for ever;
and batch requests may fill only their share of the room, so that they never shut out the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from llm_fleet.gateway.balancing import Balancer, Lease
from llm_fleet.registry import Engine
from llm_fleet.routing import Priority

LEAST_ROOM = 64
"""Requests that may wait for a pool, however small it is."""
ROOM_PER_PLACE = 4
"""Requests that may wait per place at the pool's engines: a few rounds of answers; beyond that, better tell the client.
"""
BATCH_SHARE = 0.5
"""Of the room that batch requests may fill."""
AGES_AFTER_S = 60.0
SWEEP_S = 0.25
"""One timer looks after everyone who waits, instead of a timer for each: give-ups are late by this at most."""
DEFAULT_RETRY_S = 2.0
"""Retry-After while nothing is known about how fast places free."""
LONGEST_RETRY_S = 60.0


class Ticket:
    """A request that waits."""

    __slots__ = ("affinity", "avoid", "entered_at", "gives_up_at", "line", "on_give_up", "on_lease", "tokens")

    def __init__(
        self,
        tokens: int,
        affinity: int | None,
        wait_s: float,
        on_lease: Callable[[Lease], None],
        on_give_up: Callable[[], None],
        avoid: Collection[Engine],
    ) -> None:
        self.avoid = avoid
        self.tokens = tokens
        self.affinity = affinity
        self.entered_at = time.monotonic()
        self.gives_up_at = self.entered_at + wait_s
        self.on_lease = on_lease
        self.on_give_up = on_give_up
        self.line: _Line | None = None
        """Where it stands; None once it has left."""

    def cancel(self) -> None:
        """The client left: neither callback will be called. Harmless once one was."""
        self.leave()

    def leave(self) -> None:
        """Step out of the line, in constant time."""
        if self.line is not None:
            del self.line[self]
            self.line = None


_Line = OrderedDict[Ticket, None]


class _Queue:
    __slots__ = ("batch", "default", "dispatching", "free_every_s", "freed_at", "lines", "realtime")

    def __init__(self) -> None:
        self.realtime: _Line = OrderedDict()
        self.default: _Line = OrderedDict()
        self.batch: _Line = OrderedDict()
        self.lines = (self.realtime, self.default, self.batch)
        self.dispatching = False
        self.freed_at: float | None = None
        self.free_every_s: float | None = None

    def __len__(self) -> int:
        return len(self.realtime) + len(self.default) + len(self.batch)


class WaitingRoom:
    """Of one gateway task. Everything runs on the event loop's thread."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._queues: dict[str, _Queue] = {}
        self._timer: asyncio.TimerHandle | None = None
        balancer.on_room(self._dispatch)

    def enter(
        self,
        pool: str,
        tokens: int,
        affinity: int | None,
        priority: Priority,
        wait_s: float,
        on_lease: Callable[[Lease], None],
        on_give_up: Callable[[], None],
        avoid: Collection[Engine] = (),
    ) -> Ticket | None:
        """Wait for a place, at none of the engines in `avoid`; None: the room is full. Then exactly one follows, from
        the event loop: `on_lease` with a lease that is the caller's to end, `on_give_up` after `wait_s` seconds, or the
        caller's `cancel`.
        """
        queue = self._queues.setdefault(pool, _Queue())
        room = max(LEAST_ROOM, ROOM_PER_PLACE * self._balancer.places(pool))
        if len(queue) >= (room * BATCH_SHARE if priority == "batch" else room):
            return None
        ticket = Ticket(tokens, affinity, wait_s, on_lease, on_give_up, avoid)
        _stand(ticket, getattr(queue, priority))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return ticket

    def waiting(self, pool: str) -> int:
        """Requests that wait for the pool."""
        queue = self._queues.get(pool)
        return 0 if queue is None else len(queue)

    def retry_after_s(self, pool: str) -> float:
        """When a place may be free for one who comes now: those who wait, at the pace that places freed lately."""
        queue = self._queues.get(pool)
        if queue is None or queue.free_every_s is None:
            return DEFAULT_RETRY_S
        return min(max(1.0, (len(queue) + 1) * queue.free_every_s), LONGEST_RETRY_S)

    def _dispatch(self, pool: str) -> None:
        queue = self._queues.get(pool)
        if queue is None or queue.dispatching:
            return
        queue.dispatching = True  # a callback may end a lease at once, which calls back to here
        try:
            while (served := self._next(pool, queue)) is not None:
                ticket, lease = served
                ticket.leave()
                _note_pace(queue)
                try:
                    ticket.on_lease(lease)
                except BaseException:
                    lease.done("left")
                    raise
            if not queue:
                queue.freed_at = None  # an empty room says nothing about the pace
        finally:
            queue.dispatching = False

    def _next(self, pool: str, queue: _Queue) -> tuple[Ticket, Lease] | None:
        """The first for whom there is a place. Who avoids an engine lets others pass that do not."""
        for line in queue.lines:
            for ticket in line:
                lease = self._balancer.take(pool, ticket.tokens, ticket.affinity, ticket.avoid)
                if lease is not None:
                    return ticket, lease
                if not ticket.avoid:
                    return None
        return None

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        for pool, queue in self._queues.items():
            while (oldest := next(iter(queue.batch), None)) and now - oldest.entered_at >= AGES_AFTER_S:
                oldest.leave()
                _stand(oldest, queue.default)
            for ticket in [ticket for line in queue.lines for ticket in line if now >= ticket.gives_up_at]:
                if ticket.line is not None:  # the callback before this one may have cancelled it
                    ticket.leave()
                    ticket.on_give_up()
            self._dispatch(pool)  # a breaker may have become due for its probe, which nobody announces
        if self._timer is None and any(self._queues.values()):
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


def _stand(ticket: Ticket, line: _Line) -> None:
    line[ticket] = None
    ticket.line = line


def _note_pace(queue: _Queue) -> None:
    now = time.monotonic()
    if queue.freed_at is not None:
        took_s = now - queue.freed_at
        queue.free_every_s = took_s if queue.free_every_s is None else 0.9 * queue.free_every_s + 0.1 * took_s
    queue.freed_at = now
