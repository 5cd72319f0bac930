"""A small engine on a thread of its own: real sockets, answers in OpenAI's shapes, failures on order.

with EngineStandIn() as engine:
    engine.orders.append("refuse_with_500")       the next request gets it; without orders all goes well
    engine.requests                               what came, head and body
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import orjson

from llm_fleet.registry import Engine

Order = Literal[
    "refuse_with_500",  # an answer of 500
    "refuse_with_400",
    "die_unheard",  # close before a byte of the answer
    "die_after_head",  # send the head of a stream, then close
    "die_in_answer",  # half of an answer, or three events of a stream and half of one more
    "end_without_done",  # a stream that ends in good order, without its last event
    "stall",  # never answer
    "stall_in_stream",  # two events, then nothing
    "answer_slowly",  # after a second
    "large",  # an answer of three megabytes
    "until_close",  # no length: the end of the connection is the end
]
WORDS = ("The", " capital", " of", " France", " is", " Paris", ".")
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@dataclass
class Seen:
    """A request as it came."""

    head: str
    body: bytes

    @property
    def facts(self) -> dict[str, Any]:
        return orjson.loads(self.body)


class EngineStandIn:
    """The engine. `pause_s` lies between the events of its streams."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.orders: list[Order] = []
        self.requests: list[Seen] = []
        self.connections = 0
        self.open = 0
        self.cancelled = 0
        """Requests whose client left before their answer was whole."""
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    @property
    def engine(self) -> Engine:
        return Engine("127.0.0.1", self.port, 64)

    def __enter__(self) -> EngineStandIn:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop_listening(self) -> None:
        """From now on connections are refused, and the open ones closed."""
        self._run(self._stop())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
        seen = Seen(head, await reader.readexactly(length))
        self.requests.append(seen)
        order = self.orders.pop(0) if self.orders else None
        answering = asyncio.ensure_future(self._answer(seen, order, writer))
        leaving = asyncio.ensure_future(reader.read(1))
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            self.cancelled += 1
            answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)
        if answering.cancelled() or answering.exception() is not None:
            return False
        return answering.result()

    async def _answer(self, seen: Seen, order: Order | None, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        if order == "stall":
            await asyncio.sleep(3600)
        if order == "answer_slowly":
            await asyncio.sleep(1)
        if order == "die_unheard":
            return False
        if order in ("refuse_with_500", "refuse_with_400"):
            status = int(order[-3:])
            writer.write(plain({"error": {"message": "by order", "type": "x", "param": None, "code": None}}, status))
            await writer.drain()
            return True
        if seen.facts.get("stream"):
            return await self._stream(seen, order, writer)
        answer = whole(seen)
        if order == "large":
            answer["padding"] = "x" * 3_000_000
        message = plain(answer, 200)
        if order == "until_close":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + orjson.dumps(answer))
            await writer.drain()
            writer.close()
            await asyncio.sleep(0.05)
            return False
        if order == "die_in_answer":
            message = message[: len(message) - 40]
        writer.write(message)
        await writer.drain()
        return order != "die_in_answer"

    async def _stream(self, seen: Seen, order: Order | None, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await writer.drain()
        if order == "die_after_head":
            return False
        for number, event in enumerate(events(seen)):
            if order == "die_in_answer" and number == 3:
                writer.write(b"%x\r\n%b" % (len(event), event[: len(event) // 2]))
                await writer.drain()
                return False
            if order == "stall_in_stream" and number == 2:
                await asyncio.sleep(3600)
            if order == "end_without_done" and b"[DONE]" in event:
                break
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def plain(facts: dict[str, Any], status: int) -> bytes:
    body = orjson.dumps(facts)
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def whole(seen: Seen) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": "x", "created": 1, "model": seen.facts["model"], "usage": USAGE}
    if "/embeddings" in seen.head:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        return {**facts, "object": "list", "data": data, "usage": {"prompt_tokens": 11, "total_tokens": 11}}
    if "/responses" in seen.head:
        text = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}
        usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
        return {**facts, "object": "response", "created_at": 1, "output": [message], "usage": usage}
    if "/chat/" in seen.head:
        message = {"role": "assistant", "content": "".join(WORDS)}
        return {
            **facts,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
    return {
        **facts,
        "object": "text_completion",
        "choices": [{"index": 0, "text": "".join(WORDS), "finish_reason": "stop", "logprobs": None}],
    }


def events(seen: Seen) -> list[bytes]:
    chat = "/chat/" in seen.head
    facts: dict[str, Any] = {"id": "x", "created": 1, "model": seen.facts["model"]}
    facts["object"] = "chat.completion.chunk" if chat else "text_completion"
    found: list[bytes] = []
    for word in WORDS:
        piece = {"delta": {"content": word}} if chat else {"text": word}
        found.append(orjson.dumps({**facts, "choices": [{"index": 0, **piece, "finish_reason": None}]}))
    if (seen.facts.get("stream_options") or {}).get("include_usage"):
        found.append(orjson.dumps({**facts, "choices": [], "usage": USAGE}))
    return [b"data: %b\n\n" % each for each in (*found, b"[DONE]")]


def wait_until(condition: Callable[[], object], what: str, at_most_s: float = 10.0) -> None:
    """Wait for something that happens soon; fails loudly when it does not."""
    deadline = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {at_most_s:g} s"
        time.sleep(0.01)
