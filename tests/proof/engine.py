"""A stand-in for an engine: a real process that speaks OpenAI's API, answers the same to the same, and fails on order.

    python -m tests.proof.engine --host 127.0.0.1 --port 8000 --control-port 8001

The answer to a text is `answer(text, max_tokens)`: a digest of the text, then numbered words; so whoever sees an answer
can tell which request it belongs to. A prompt that contains REFUSED_WORD is refused with 400, as an engine refuses what
it cannot tokenise. Orders come by a port of their own (see `Orders`), so that they work while the engine does not.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import httptools
import orjson
import uvloop

from tests.proof.answers import DEFAULT_TOKENS, MODEL, REPLIES, answer, error_body, events, text_of

SLOTS = 8
REFUSED_WORD = "engine-refuses-this"


@dataclass(frozen=True)
class Mode:
    """How requests are answered from now on."""

    kind: Literal["ok", "error", "stall", "cut"] = "ok"
    """error answers `status`; stall never answers; cut closes the connection."""
    delay_s: float = 0.0
    """Before the first byte."""
    interval_s: float = 0.0
    """Between the chunks of a stream."""
    status: int = 500
    after_chunks: int = 0
    """Chunks that come before a stall or a cut; of a plain answer, half of it."""
    requests: int | None = None
    """For how many requests it holds; None until told otherwise."""


@dataclass
class Counts:
    """What happened so far. Whatever started has ended by now or is in flight."""

    started: int = 0
    answered: int = 0
    left: int = 0
    """Requests whose client went before the answer was complete."""
    failed: int = 0
    """Requests answered with an error, cut or stalled by order."""
    in_flight: int = 0
    most_in_flight: int = 0
    header_names: set[str] = field(default_factory=set[str])
    header_values: set[str] = field(default_factory=set[str])
    """Of headers whose name speaks of authority: authorization, cookie, keys."""
    texts: Counter[str] = field(default_factory=Counter[str])
    """Digest of each text -> how often it was answered, while `remember` is on."""
    tokens: int = 0


class Engine:
    """The state of the process, and its listeners."""

    def __init__(self, host: str, port: int, delay_s: float) -> None:
        self.delay_s = delay_s
        self.mode = Mode()
        self.counts = Counts()
        self.remember = False
        self.connections: set[Connection] = set()
        self._at = (host, port)
        self._server: asyncio.Server | None = None
        self.accepting: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Connection(self), *self._at)

    def refuse(self) -> None:
        """Close the port and every connection, as a process that died."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.connections):
            connection.abort()

    def take_mode(self) -> Mode:
        mode = self.mode
        if mode.requests is not None:
            left = mode.requests - 1
            self.mode = Mode(**{**vars(mode), "requests": left}) if left > 0 else Mode()
        return mode


class Parsed(asyncio.Protocol, ABC):
    """One connection of HTTP/1.1: collects a request, then calls `serve`."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.path, self.body = "", bytearray()
        self.headers: dict[str, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self.path, self.body, self.headers = "", bytearray(), {}

    def on_url(self, url: bytes) -> None:
        self.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.serve()

    @abstractmethod
    def serve(self) -> None:
        """Answer the request that has come whole."""

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def abort(self) -> None:
        self.transport.abort()


class Connection(Parsed):
    """A client of the engine."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.engine.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.engine.connections.discard(self)
        if self.task is not None:
            self.task.cancel()

    def serve(self) -> None:
        counts = self.engine.counts
        path = self.path.partition("?")[0]
        if path == "/health":
            return self.send(200, b"")
        if path == "/metrics":
            return self.send(200, metrics(counts).encode(), "text/plain; version=0.0.4")
        if path == "/v1/models":
            models = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "proof"}]}
            return self.send(200, orjson.dumps(models))
        if path not in REPLIES:
            return self.send(404, error_body("no such path", 404))
        counts.header_names |= self.headers.keys()
        speaking = ("auth", "cookie", "key", "token")
        counts.header_values |= {v for n, v in self.headers.items() if any(word in n for word in speaking)}
        counts.started += 1
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        self.task = asyncio.get_running_loop().create_task(self._reply(path, bytes(self.body)))
        return None

    async def _reply(self, path: str, body: bytes) -> None:
        counts = self.engine.counts
        mode = self.engine.take_mode()
        try:
            if delay_s := mode.delay_s or self.engine.delay_s:
                await asyncio.sleep(delay_s)
            if await self._answer(path, body, mode):
                counts.answered += 1
            else:
                counts.failed += 1
        except asyncio.CancelledError:
            counts.left += 1
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            counts.failed += 1
            self.send(400, error_body(f"not understood: {error}", 400))
        finally:
            counts.in_flight -= 1
            self.task = None

    async def _answer(self, path: str, body: bytes, mode: Mode) -> bool:
        request = orjson.loads(body)
        text = text_of(request)
        if mode.kind == "error":
            self.send(mode.status, error_body("the engine fails on order", mode.status))
            return False
        if REFUSED_WORD in text:
            self.send(400, error_body("a text that this engine refuses", 400))
            return False
        if mode.kind in ("stall", "cut") and not mode.after_chunks:
            return await self._give_up(mode)
        counts = self.engine.counts
        if self.engine.remember:
            counts.texts[hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]] += 1
        asked = request.get("max_tokens") or request.get("max_completion_tokens") or DEFAULT_TOKENS
        words = answer(text, min(int(asked), 4096)).split(" ")
        counts.tokens += len(words)
        if not request.get("stream"):
            reply = orjson.dumps(REPLIES[path](request, text, words))
            if mode.kind == "ok":
                self.send(200, reply)
                return True
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(reply)}\r\n\r\n"
            self.transport.write(head.encode() + reply[: len(reply) // 2])
            return await self._give_up(mode)
        return await self._stream(path, request, words, mode)

    async def _stream(self, path: str, request: dict[str, Any], words: list[str], mode: Mode) -> bool:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number, event in enumerate(events(path, request, words)):
            if mode.kind != "ok" and number == mode.after_chunks:
                return await self._give_up(mode)
            data = b"data: " + event + b"\n\n"
            self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))
            await asyncio.sleep(mode.interval_s)
        self.transport.write(b"0\r\n\r\n")
        return True

    async def _give_up(self, mode: Mode) -> bool:
        if mode.kind == "stall":
            await asyncio.sleep(3600)
        self.abort() if mode.after_chunks == 0 else self.transport.close()
        return False


class Orders(Parsed):
    """The control port: GET /counts; POST /mode (a Mode), /remember, /refuse, /accept, /crash, /reset."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def serve(self) -> None:
        engine = self.engine
        if self.path == "/counts":
            facts = {**vars(engine.counts), "texts": dict(engine.counts.texts), "connections": len(engine.connections)}
            return self.send(200, orjson.dumps(facts, default=sorted))
        if self.path == "/mode":
            engine.mode = Mode(**orjson.loads(bytes(self.body)))
        elif self.path == "/remember":
            engine.remember = True
        elif self.path == "/refuse":
            engine.refuse()
        elif self.path == "/accept":
            engine.accepting = asyncio.get_running_loop().create_task(engine.listen())
        elif self.path == "/crash":
            os._exit(1)
        elif self.path == "/reset":
            engine.counts = Counts(in_flight=engine.counts.in_flight)
        return self.send(200, b"{}")


def metrics(counts: Counts) -> str:
    """Names and labels as vLLM has them."""
    labels = f'{{model_name="{MODEL}",engine="0"}}'
    running = min(counts.in_flight, SLOTS)
    lines = (
        f"vllm:num_requests_running{labels} {running}.0",
        f"vllm:num_requests_waiting{labels} {counts.in_flight - running}.0",
        f"vllm:generation_tokens_total{labels} {counts.tokens}.0",
        f"vllm:prompt_tokens_total{labels} {counts.tokens}.0",
        f"vllm:time_to_first_token_seconds_sum{labels} {counts.answered * 0.05}",
        f"vllm:time_to_first_token_seconds_count{labels} {counts.answered}.0",
    )
    return "\n".join((*lines, ""))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every answer")
    asked = parser.parse_args()
    engine = Engine(asked.host, asked.port, asked.delay)
    await engine.listen()
    orders = await asyncio.get_running_loop().create_server(lambda: Orders(engine), "127.0.0.1", asked.control_port)
    print(orjson.dumps({"event": "listening", "port": asked.port}).decode(), flush=True)
    await orders.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
