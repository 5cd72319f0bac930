"""What the gateway says of its requests: a log line each, counters for Prometheus, samples for CloudWatch.

Cheap enough for every request: one that ends is only noted, and FLUSH_S later described, counted and written with its
neighbours. A hundred in a row cost half as much as a hundred amid the forwarding, whose code they would push out of
the processor's caches.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import BinaryIO

import orjson

from llm_fleet.cloudwatch import Publisher
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.json_log import VARIABLE, JsonLog

FLUSH_S = 0.2
FLUSH_REQUESTS = 256
"""Noted at one time: then they are flushed at once."""
BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000)
"""Upper bounds of the histograms."""
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
"""Counted by name; all else is "other", because whoever asks for nonsense must not make a series."""
REFUSALS = (429, 503)
"""Statuses that say: not now."""


@dataclass
class FinishedRequest:
    """All that is known of a request when it ends. No prompt, no answer, no key beyond its id.

    Without slots: its line is its __dict__, which orjson writes four times as fast as a dataclass with slots.
    """

    request_id: str
    key_id: str | None
    method: str
    path: str
    model: str | None
    pool: str | None
    role: str | None
    """The role that the routing rule asked for."""
    reason: str | None
    """Of the pool that was chosen."""
    worker_id: str | None
    status: int
    streamed: bool
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    """Whether the engine told no usage."""
    queue_wait_ms: float
    """From accept to the lease of an engine."""
    ttft_ms: float | None
    """From accept to the first byte of the answer; the time to the first token only where it is streamed."""
    total_ms: float
    cost_usd: float | None
    attempts: int
    """Engines that were tried."""
    error_code: str | None
    bytes_in: int
    bytes_out: int


class _Histogram:
    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, value_ms: float) -> None:
        self.counts[bisect_left(BUCKETS_MS, value_ms)] += 1
        self.sum_ms += value_ms


class _PoolMeters:
    __slots__ = (
        "attempts",
        "completion_tokens",
        "cost_usd",
        "prompt_tokens",
        "queue_wait",
        "requests",
        "total",
        "ttft",
    )

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cost_usd = 0.0
        self.attempts = 0
        self.queue_wait = _Histogram()
        self.ttft = _Histogram()
        self.total = _Histogram()


class Meters:
    """Of one gateway task; everything runs on the event loop's thread."""

    def __init__(
        self,
        pools: Iterable[str],
        balancer: Balancer,
        waiting_room: WaitingRoom,
        publisher: Publisher,
        log: JsonLog,
        output: BinaryIO | None = None,
    ) -> None:
        self._pools = tuple(pools)
        self._balancer = balancer
        self._waiting_room = waiting_room
        self._publisher = publisher
        self._readable = log if os.environ.get(VARIABLE) == "text" else None
        self._output = output or sys.stdout.buffer
        self._meters = {pool: _PoolMeters() for pool in ("", *self._pools)}
        self._noted: list[tuple[float, Callable[[], FinishedRequest]]] = []
        self._lines_dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        atexit.register(self.flush)

    def note(self, describe: Callable[[], FinishedRequest]) -> None:
        """Note a request that ended; it is described, counted and logged with the next flush."""
        self._noted.append((time.time(), describe))
        if len(self._noted) >= FLUSH_REQUESTS:
            self.flush()
        elif self._timer is None:
            with contextlib.suppress(RuntimeError):  # no loop runs any more: the flush at exit writes it
                self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Count and log what was noted. Lines that nobody takes are dropped and counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        noted, self._noted = self._noted, []
        if not noted:
            return
        lines: list[bytes] = []
        for ended_at, describe in noted:
            request = describe()
            self._count(request)
            if self._readable is not None:
                self._readable.event("request", **asdict(request))
                continue
            facts = orjson.dumps(request.__dict__, option=orjson.OPT_APPEND_NEWLINE)
            lines.append(b'{"time":%.3f,"event":"request","service":"gateway",' % ended_at + facts[1:])
        try:
            self._output.write(b"".join(lines))
            self._output.flush()
        except (OSError, ValueError):  # the reader left; the file was closed
            self._lines_dropped += len(lines)

    def _count(self, request: FinishedRequest) -> None:
        pool = request.pool or ""
        meters = self._meters.get(pool) or self._meters[""]
        series = (request.path if request.path in PATHS else "other", request.status)
        meters.requests[series] = meters.requests.get(series, 0) + 1
        meters.prompt_tokens += request.prompt_tokens
        meters.completion_tokens += request.completion_tokens
        meters.attempts += request.attempts
        meters.cost_usd += request.cost_usd or 0.0
        meters.queue_wait.add(request.queue_wait_ms)
        meters.total.add(request.total_ms)
        if request.path in PATHS and (request.key_id is not None or request.status in REFUSALS):
            self._count_refusals(request)
        # An answer sent whole comes when its last token is there, and an error comes fast: neither tells this time.
        if request.ttft_ms is not None and request.streamed and request.status < 400:
            meters.ttft.add(request.ttft_ms)
            self._publisher.sample("TimeToFirstToken", pool, request.ttft_ms, "Milliseconds")

    def _count_refusals(self, request: FinishedRequest) -> None:
        """Requests to models, and those of them that were refused, for CloudWatch. Strangers without a key are none:
        their 401s would make the share of refusals look small.
        """
        self._publisher.count("Requests", 1)
        if request.status in REFUSALS:
            self._publisher.count("Refused", 1)
            self._publisher.count("Refused", 1, reason=request.error_code or "engine")  # the engine's own word: no code

    def prometheus(self) -> bytes:
        """Everything, in Prometheus's text format."""
        self.flush()
        return "".join(f"{line}\n" for line in (*self._counters(), *self._histograms(), *self._gauges())).encode()

    def _counters(self) -> Iterable[str]:
        yield from _head("requests_total", "counter", "Requests that ended, by pool, path and status.")
        for pool, meters in self._meters.items():
            for (path, status), count in meters.requests.items():
                yield f'llm_fleet_requests_total{{pool="{pool}",path="{path}",status="{status}"}} {count}'
        for name, help in (
            ("prompt_tokens", "Tokens of prompts."),
            ("completion_tokens", "Tokens generated."),
            ("attempts", "Engines tried; above the requests, where one failed before its first byte."),
            ("cost_usd", "Estimated cost of the answers in US dollars."),
        ):
            yield from _head(f"{name}_total", "counter", help)
            for pool, meters in self._meters.items():
                yield f'llm_fleet_{name}_total{{pool="{pool}"}} {getattr(meters, name)}'
        yield from _head("log_lines_dropped_total", "counter", "Request lines that could not be written.")
        yield f"llm_fleet_log_lines_dropped_total {self._lines_dropped}"

    def _histograms(self) -> Iterable[str]:
        for name, help in (
            ("queue_wait", "Milliseconds from accept to the lease of an engine."),
            ("ttft", "Milliseconds from accept to the first token, of streams."),
            ("total", "Milliseconds from accept to the end of the answer."),
        ):
            yield from _head(f"{name}_ms", "histogram", help)
            for pool, meters in self._meters.items():
                histogram: _Histogram = getattr(meters, name)
                below = 0
                for bound, count in zip((*BUCKETS_MS, "+Inf"), histogram.counts, strict=True):
                    below += count
                    yield f'llm_fleet_{name}_ms_bucket{{pool="{pool}",le="{bound}"}} {below}'
                yield f'llm_fleet_{name}_ms_sum{{pool="{pool}"}} {histogram.sum_ms:.3f}'
                yield f'llm_fleet_{name}_ms_count{{pool="{pool}"}} {below}'

    def _gauges(self) -> Iterable[str]:
        yield from _head("waiting", "gauge", "Requests that wait for an engine.")
        for pool in self._pools:
            yield f'llm_fleet_waiting{{pool="{pool}"}} {self._waiting_room.waiting(pool)}'
        yield from _head("running", "gauge", "Requests that have an engine.")
        for pool in self._pools:
            yield f'llm_fleet_running{{pool="{pool}"}} {self._balancer.outstanding(pool)}'
        yield from _head("workers", "gauge", "Workers by state.")
        for pool in self._pools:
            states = list(self._balancer.workers(pool).values())
            for state in ("serving", "draining", "failing"):
                yield f'llm_fleet_workers{{pool="{pool}",state="{state}"}} {states.count(state)}'
        yield from _head("breakers", "gauge", "Engines by the state of their breaker.")
        for pool in self._pools:
            states = [reading.breaker for reading in self._balancer.readings(pool)]
            for state in ("closed", "half-open", "open"):
                yield f'llm_fleet_breakers{{pool="{pool}",state="{state}"}} {states.count(state)}'


def _head(name: str, kind: str, help: str) -> Iterable[str]:
    return f"# HELP llm_fleet_{name} {help}", f"# TYPE llm_fleet_{name} {kind}"
