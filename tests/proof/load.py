"""A load generator: many connections, plain and streamed requests, and clients that leave in mid-stream.

Every answer is checked against the request it belongs to. What was seen is counted; nothing grows with the number of
requests but 4 bytes of latency each.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httptools
import orjson
import uvloop

from tests.proof.answers import MODEL, answer

CYCLE = (*["plain"] * 14, *["streamed"] * 5, "cancelled")
"""Of twenty requests: fourteen plain, five streamed, one whose client leaves after the first piece of its stream."""
PROMPTS = 64
TOKENS = 6
GUARD_S = 60
"""Without any progress of the whole run, it is given up."""


@dataclass
class Seen:
    """What came of a run."""

    ended: Counter[str] = field(default_factory=Counter[str])
    """By kind."""
    wrong: Counter[str] = field(default_factory=Counter[str])
    """Whatever was not as it should be, by description."""
    latency_ms: array[float] = field(default_factory=lambda: array("f"))
    """To the last byte; cancelled requests left out."""

    def p99_ms(self) -> float:
        """To the last byte."""
        return sorted(self.latency_ms)[int(len(self.latency_ms) * 0.99)]


def request_bytes(path: str, key: str, body: dict[str, Any]) -> bytes:
    """A whole request."""
    data = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: proof\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Run:
    """One run: hands out work to its connections until all is done."""

    def __init__(self, port: int, key: str, requests: int, connections: int) -> None:
        self.port = port
        self.requests = requests
        self.connections = connections
        self.seen = Seen()
        self.handed_out = 0
        self.done = asyncio.Event()
        self._work = [self._piece(key, number) for number in range(PROMPTS)]

    def _piece(self, key: str, number: int) -> tuple[bytes, bytes, bytes]:
        prompt = f"question {number}"
        body = {"model": MODEL, "max_tokens": TOKENS, "messages": [{"role": "user", "content": prompt}]}
        plain = request_bytes("/v1/chat/completions", key, body)
        streamed = request_bytes("/v1/chat/completions", key, {**body, "stream": True})
        return plain, streamed, answer(prompt, TOKENS).partition(" ")[0].encode()

    def next(self) -> tuple[str, bytes, bytes] | None:
        """str, request and the mark of its answer; None where all is handed out."""
        if self.handed_out == self.requests:
            return None
        number = self.handed_out
        self.handed_out += 1
        kind = CYCLE[number % len(CYCLE)]
        plain, streamed, mark = self._work[number % PROMPTS]
        return kind, plain if kind == "plain" else streamed, mark

    def ended(self, kind: str, problem: str, latency_s: float) -> None:
        self.seen.ended[kind] += 1
        if problem:
            self.seen.wrong[problem] += 1
        if kind != "cancelled":
            self.seen.latency_ms.append(latency_s * 1000)
        if self.seen.ended.total() == self.requests:
            self.done.set()

    async def go(self) -> Seen:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Client(self), "127.0.0.1", self.port)
        before = -1
        while not self.done.is_set():
            now = self.seen.ended.total()
            if now == before:
                raise AssertionError(f"no progress in {GUARD_S} s: {now} of {self.requests} ended, {self.seen.wrong}")
            before = now
            try:
                await asyncio.wait_for(self.done.wait(), GUARD_S)
            except TimeoutError:
                continue
        return self.seen


class Client(asyncio.Protocol):
    """One connection that sends one request after another."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._kind: str = "plain"
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._kind == "cancelled" and self._busy and self._body:
            self._busy = False
            self._transport.abort()
            self._run.ended("cancelled", self._problem(b""), 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._busy = False
            self._run.ended(self._kind, f"{self._kind}: connection lost before the end of the answer", 0)
        if self._run.handed_out < self._run.requests:
            loop = asyncio.get_running_loop()
            self._again = loop.create_task(loop.create_connection(lambda: self, "127.0.0.1", self._run.port))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._busy:
            return
        self._busy = False
        end = b"data: [DONE]\n\n" if self._kind != "plain" else b"}"
        self._run.ended(self._kind, self._problem(end), time.perf_counter() - self._started)
        self._send()

    def _problem(self, end: bytes) -> str:
        status = self._parser.get_status_code()
        if status != 200:
            return f"{self._kind}: status {status}: {bytes(self._body[:200])!r}"
        if self._mark not in self._body or not self._body.endswith(end):
            return f"{self._kind}: another answer: {bytes(self._body[:200])!r}"
        return ""

    def _send(self) -> None:
        work = self._run.next()
        if work is None:
            self._transport.close()
            return
        self._kind, request, self._mark = work
        self._body = bytearray()
        self._busy = True
        self._started = time.perf_counter()
        self._transport.write(request)


def load(port: int, key: str, *, requests: int, connections: int) -> Seen:
    """Send so many requests over so many connections, as fast as they are answered."""

    async def run() -> Seen:
        return await Run(port, key, requests, connections).go()

    return uvloop.run(run())
