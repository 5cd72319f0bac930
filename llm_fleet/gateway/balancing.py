"""Which engine of a pool takes a request, and the count of what each of them has: the one owner of those counters.

    lease = balancer.take(pool, tokens, affinity)      None: no engine has a place now
    lease.alive()                                      its answer began, and is no 5xx
    lease.done("answered")                             on every path, once; more often is harmless

Everything runs on the event loop's thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from llm_fleet import routing
from llm_fleet.gateway import affinity as affine
from llm_fleet.gateway.breaker import Breaker, BreakerState
from llm_fleet.registry import Engine, State, WorkerEntry

SPARE_PLACES = 1
"""Above an engine's slots: the next request lies ready when one ends, so that the engine's batch has no hole for a
round trip. No more, because what waits at the gateway is counted as backlog, can go to any engine and can be given up;
what waits inside an engine cannot.
"""

How = Literal["answered", "failed", "refused", "left"]
"""answered: below 500, to the end. failed: a 5xx or a broken answer. refused: no connection. left: the client left, or
the gateway cut it.
"""


@dataclass(frozen=True, slots=True)
class EngineReading:
    """An engine as metrics show it."""

    worker_id: str
    engine: Engine
    worker_state: State
    breaker: BreakerState
    running: int
    places: int
    outstanding_tokens: int


class _Place:
    """An engine and what it has to do. It outlives its worker for as long as a lease holds it."""

    __slots__ = ("breaker", "engine", "last_turn", "places", "running", "seed", "tokens", "worker_id", "worker_state")

    def __init__(self, worker_id: str, engine: Engine) -> None:
        self.worker_id = worker_id
        self.engine = engine
        self.worker_state: State = "serving"
        self.seed = affine.seed(engine.host, engine.port)
        self.breaker = Breaker()
        self.places = 0
        self.running = 0
        self.tokens = 0
        self.last_turn = 0


class _Pool:
    __slots__ = ("known", "name", "running", "serving", "turn", "workers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.known: dict[tuple[str, str, int], _Place] = {}
        self.serving: list[_Place] = []
        self.workers: dict[str, State] = {}
        self.running = 0
        self.turn = 0


class Lease:
    """A request's place at an engine. Whoever takes it calls `done`, whatever happens."""

    __slots__ = ("_balancer", "_open", "_place", "_pool", "_probe", "_tokens", "engine", "pool", "worker_id")

    def __init__(self, balancer: Balancer, pool: _Pool, place: _Place, tokens: int, probe: bool) -> None:
        self.engine = place.engine
        self.pool = pool.name
        self.worker_id = place.worker_id
        self._balancer = balancer
        self._pool = pool
        self._place = place
        self._tokens = tokens
        self._probe = probe
        self._open = True

    def alive(self) -> None:
        """The head of an answer below 500 came. A probe closes its breaker now, not at the end of a long answer."""
        if self._probe and self._open:
            self._probe = False
            self._place.breaker.succeeded(probe=True)
            self._balancer.call_for(self.pool)

    def done(self, how: How) -> None:
        """Give the place back. Only the first call counts."""
        if not self._open:
            return
        self._open = False
        place = self._place
        place.running -= 1
        place.tokens -= self._tokens
        self._pool.running -= 1
        if how == "answered":
            place.breaker.succeeded(probe=self._probe)
        elif how != "left":
            place.breaker.failed(time.monotonic(), probe=self._probe)
        elif self._probe:
            place.breaker.probe_left()
        self._balancer.call_for(self.pool)


class Balancer:
    """Pools, engines, leases of this gateway task."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}
        self._callbacks: list[Callable[[str], None]] = []

    def learn(self, pool: str, workers: Sequence[WorkerEntry], tasks: int) -> None:
        """Take over what the registry shows alive. `tasks` gateway tasks run and share the engines' slots."""
        known = self._pools.setdefault(pool, _Pool(pool))
        before, known.known = known.known, {}
        for worker in workers:
            for engine in worker.engines:
                at = (worker.worker_id, engine.host, engine.port)
                place = known.known[at] = before.get(at) or _Place(worker.worker_id, engine)
                place.engine = engine
                place.worker_state = worker.state
                place.places = math.ceil(engine.slots / max(tasks, 1)) + SPARE_PLACES
        for at, place in before.items():
            if at not in known.known and place.running:  # should its entry come back, what it still runs is counted
                place.worker_state = "draining"
                known.known[at] = place
        known.serving = [place for place in known.known.values() if place.worker_state == "serving"]
        known.workers = {worker.worker_id: worker.state for worker in workers}
        self.call_for(pool)

    def state(self, pool: str) -> routing.State:
        """What the routing rule reads. A pool whose breakers are all open is saturated: its workers are there."""
        known = self._pools.get(pool)
        if known is None or not known.serving:
            return "empty"
        for place in known.serving:
            if place.running < place.places and (
                not place.breaker.is_open or place.breaker.may_probe(time.monotonic())
            ):
                return "ready"
        return "saturated"

    def take(self, pool: str, tokens: int, affinity: int | None, avoid: Collection[Engine] = ()) -> Lease | None:
        """A place for a request of so many tokens (prompt + maximum completion), or None.

        The engine that the affinity key prefers, unless it is loaded above its bound; else, and without a key, the one
        with the fewest tokens outstanding, in turn where they are equal. `avoid` names engines that failed it before.
        """
        known = self._pools.get(pool)
        if known is None:
            return None
        least: _Place | None = None
        preferred: _Place | None = None
        best_score = 0
        bound = 0.0
        if len(known.serving) == 1:
            affinity = None  # nothing to prefer
        if affinity is not None and known.serving:
            outstanding = sum([place.tokens for place in known.serving])
            bound = affine.bound_tokens(outstanding, len(known.serving), tokens)
        for place in known.serving:
            if place.running >= place.places or (avoid and place.engine in avoid):
                continue
            if place.breaker.is_open:
                if place.breaker.may_probe(time.monotonic()):
                    place.breaker.begin_probe()
                    return self._lease(known, place, tokens, probe=True)
                continue
            if (
                least is None
                or place.tokens < least.tokens
                or (place.tokens == least.tokens and place.last_turn < least.last_turn)
            ):
                least = place
            if affinity is not None and place.tokens <= bound:
                score = affine.score(affinity, place.seed)
                if preferred is None or score > best_score:
                    preferred, best_score = place, score
        chosen = preferred or least
        return None if chosen is None else self._lease(known, chosen, tokens, probe=False)

    def has_others(self, pool: str, than: Collection[Engine]) -> bool:
        """Whether other engines than these serve the pool and are trusted, with a place at present or without."""
        known = self._pools.get(pool)
        return known is not None and any(
            place.engine not in than and not place.breaker.is_open for place in known.serving
        )

    def outstanding(self, pool: str) -> int:
        """Requests of the pool that have a lease."""
        known = self._pools.get(pool)
        return 0 if known is None else known.running

    def places(self, pool: str) -> int:
        """Places at the pool's serving engines, taken or free."""
        known = self._pools.get(pool)
        return 0 if known is None else sum(place.places for place in known.serving)

    def workers(self, pool: str) -> dict[str, State]:
        """The pool's workers, by id."""
        known = self._pools.get(pool)
        return {} if known is None else dict(known.workers)

    def readings(self, pool: str) -> Iterator[EngineReading]:
        """The pool's engines, for metrics."""
        known = self._pools.get(pool)
        now = time.monotonic()
        for place in known.known.values() if known else ():
            yield EngineReading(
                place.worker_id,
                place.engine,
                place.worker_state,
                place.breaker.state(now),
                place.running,
                place.places,
                place.tokens,
            )

    def on_room(self, callback: Callable[[str], None]) -> None:
        """Call it with a pool's name whenever a place of it may have become free."""
        self._callbacks.append(callback)

    def call_for(self, pool: str) -> None:
        """Tell those who wait that a place may be free."""
        for callback in self._callbacks:
            callback(pool)

    def _lease(self, pool: _Pool, place: _Place, tokens: int, probe: bool) -> Lease:
        pool.turn += 1
        pool.running += 1
        place.last_turn = pool.turn
        place.running += 1
        place.tokens += tokens
        return Lease(self, pool, place, tokens, probe)
