"""The instance's engines, as the lines see them: one lane each, with a limit that moves and a pulse that is felt.

A line waits here for room at an engine that generates tokens; one thread a lane looks at the engine's queue, sets the
limit, and probes the engine when it has been silent for long or a line met a fault.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator

from llm_fleet.json_log import JsonLog
from llm_fleet.registry import Engine
from llm_fleet.worker.engine import (
    Call,
    CancelledError,
    EngineFaultError,
    Reply,
    generated_a_token,
    read_metrics,
)
from llm_fleet.worker.engine_metrics import EngineLoad, parse_load
from llm_fleet.worker.pace import ahead, first_limit, halved, next_limit
from llm_fleet.worker.settings import Times

OVERLOADED = (429, 503)
"""Statuses of an engine that would answer later: no result, and nobody's fault."""


class NoEngineError(Exception):
    """No engine generates tokens at the moment."""


class OverloadedError(Exception):
    """The engine has too much to do to take the request."""


class Lane:
    """One engine. Its fields change under the lock of Lanes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.limit = first_limit(engine.slots)
        self.calls: set[Call] = set()
        self.load = EngineLoad()
        self.alive = False
        self.sign_at = time.monotonic()
        """When it last showed that it generates; at first, when it was first looked at."""
        self.suspected = threading.Event()


class Lanes:
    """All engines of the instance."""

    def __init__(self, engines: tuple[Engine, ...], model: str, times: Times, log: JsonLog) -> None:
        self._lanes = tuple(Lane(engine) for engine in engines)
        self._model = model
        self._times = times
        self._log = log
        self._changed = threading.Condition()
        self._cancelled = False
        self.ready = threading.Event()
        """Set once every engine has generated a token."""

    def start(self) -> None:
        """Begin to look at the engines."""
        for lane in self._lanes:
            name = f"lane-{lane.engine.port}"
            threading.Thread(target=self._watch, args=(lane,), name=name, daemon=True).start()

    def run(self, path: str, body: bytes, timeout_s: float) -> Reply:
        """Send a line to the engine with the most room, once it has any, and return its answer.

        Raises:
            EngineFaultError: no answer.
            OverloadedError: the engine refused it for now.
            NoEngineError: no engine generates tokens.
            CancelledError: `cancel_all` was called.
        """
        with self._room() as (lane, call):
            try:
                reply = call.send("POST", path, body, timeout_s)
            except CancelledError:
                if self._cancelled:
                    raise
                raise EngineFaultError("engine_stalled", "the engine stopped generating tokens") from None
            except EngineFaultError:
                lane.suspected.set()
                raise
            self._note(lane, reply)
            if reply.status in OVERLOADED:
                raise OverloadedError(f"the engine refused with status {reply.status}")
            return reply

    def wanted(self) -> int:
        """Lines to hold now: what the engines that generate take at once, and some to follow."""
        with self._changed:
            return sum(lane.limit + ahead(lane.limit) for lane in self._lanes if lane.alive)

    def alive(self) -> tuple[Engine, ...]:
        """The engines that generate tokens."""
        with self._changed:
            return tuple(lane.engine for lane in self._lanes if lane.alive)

    def silent_s(self) -> float:
        """How long the engine that fails longest has generated nothing; 0 where all generate."""
        with self._changed:
            failing = [lane.sign_at for lane in self._lanes if not lane.alive]
        return time.monotonic() - min(failing) if failing else 0.0

    def load(self) -> tuple[int, int]:
        """Requests that run and that wait in the engines; where an engine does not say, the worker's own."""
        with self._changed:
            running = sum(len(lane.calls) if lane.load.running is None else lane.load.running for lane in self._lanes)
            return running, sum(lane.load.waiting or 0 for lane in self._lanes)

    def cancel_all(self) -> None:
        """Cancel every call, those that wait for room too, and refuse new ones."""
        with self._changed:
            self._cancelled = True
            calls = [call for lane in self._lanes for call in lane.calls]
            self._changed.notify_all()
        for call in calls:
            call.cancel()

    @contextlib.contextmanager
    def _room(self) -> Generator[tuple[Lane, Call]]:
        with self._changed:
            lane = self._free_lane()
            while lane is None:
                self._changed.wait()
                lane = self._free_lane()
            call = Call(lane.engine.host, lane.engine.port)
            lane.calls.add(call)
        try:
            yield lane, call
        finally:
            with self._changed:
                lane.calls.discard(call)
                self._changed.notify()

    def _free_lane(self) -> Lane | None:
        if self._cancelled:
            raise CancelledError
        alive = [lane for lane in self._lanes if lane.alive]
        if not alive:
            raise NoEngineError("no engine generates tokens")
        best = max(alive, key=lambda lane: lane.limit - len(lane.calls))
        return best if len(best.calls) < best.limit else None

    def _note(self, lane: Lane, reply: Reply) -> None:
        if 200 <= reply.status < 300:
            with self._changed:
                lane.sign_at = time.monotonic()
        elif reply.status in OVERLOADED:
            with self._changed:
                lane.limit = halved(lane.limit)
        elif reply.status >= 500:
            lane.suspected.set()

    def _watch(self, lane: Lane) -> None:
        while True:
            self._look(lane)
            lane.suspected.wait(self._times.look_s)

    def _look(self, lane: Lane) -> None:
        engine, before = lane.engine, len(lane.calls)
        page = read_metrics(engine.host, engine.port)
        suspected = lane.suspected.is_set()
        lane.suspected.clear()
        with self._changed:
            if page is not None:  # an engine too busy to answer this time is not one that has no queue
                load = parse_load(page)
                if _generated_since(lane.load, load):
                    lane.sign_at = time.monotonic()
                lane.load = load
                lane.limit = next_limit(lane.limit, engine.slots, max(before, len(lane.calls)), load)
            self._changed.notify_all()
            silent = time.monotonic() - lane.sign_at > self._times.probe_after_s
        if not lane.alive or suspected or silent:
            self._probe(lane)

    def _probe(self, lane: Lane) -> None:
        engine = lane.engine
        alive = generated_a_token(engine.host, engine.port, self._model, self._times.probe_timeout_s)
        if not alive:  # an engine full of other requests may refuse a probe, or let it wait
            alive = _generated_since(lane.load, parse_load(read_metrics(engine.host, engine.port) or ""))
        with self._changed:
            if alive:
                lane.sign_at = time.monotonic()
            else:
                lane.load = EngineLoad()
            changed, lane.alive = lane.alive != alive, alive
            stalled = () if alive else tuple(lane.calls)
            if all(each.alive for each in self._lanes):
                self.ready.set()
            self._changed.notify_all()
        for call in stalled:
            call.cancel()
        if changed:
            self._log.event("engine_generates" if alive else "engine_generates_nothing", port=engine.port)


def _generated_since(before: EngineLoad, now: EngineLoad) -> bool:
    return (
        before.generated_tokens is not None
        and now.generated_tokens is not None
        and now.generated_tokens > before.generated_tokens
    )
