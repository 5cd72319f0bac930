"""The gateway in this process, on a thread and a loop of its own: all of it but AWS, with engines that the test gives.

with RunningGateway([engine]) as gateway:
    gateway.client().chat.completions.create(...)
"""

from __future__ import annotations

import asyncio
import io
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import openai
import orjson
import uvloop

from llm_fleet.cloudwatch import Publisher
from llm_fleet.gateway.app import Gateway, Parts
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.http import Route
from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.keys import new_key
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.meters import Meters
from llm_fleet.gateway.settings import ExchangeLimits, GatewaySettings
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.gateway.wire.limits import WireLimits
from llm_fleet.json_log import JsonLog
from llm_fleet.registry import Engine, WorkerEntry
from tests.gateway.engine_stand_in import EngineStandIn, wait_until

MODEL = "small-model"
POOL = "cost_efficient"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
FAST = WireLimits(check_every_s=0.02)
"""Time-outs are found at once, so that tests may set short ones."""


class NoAws:
    """Every call of AWS succeeds and says nothing."""

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        return lambda **_: {"AutoScalingGroups": []}


class KeyTable(NoAws):
    """A keys table as KeyStore reads it. `slow_s` is what a look-up takes."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}

    def add(self, name: str, **limits: Any) -> str:
        text, key = new_key(name, 1, **limits)
        facts = {field: getattr(key, field) for field in type(key).__dataclass_fields__}
        self.items[key.key_id] = {
            field: {"N": str(fact)} if isinstance(fact, int) else {"S": fact}
            for field, fact in facts.items()
            if fact is not None
        }
        return text

    def get_paginator(self, _: str) -> Any:
        items = list(self.items.values())

        class Paginator:
            def paginate(self, **_: Any) -> list[dict[str, Any]]:
                return [{"Items": items}]

        return Paginator()

    def get_item(self, **given: Any) -> dict[str, Any]:
        item = self.items.get(given["Key"]["key_id"]["S"])
        return {} if item is None else {"Item": item}


def settings(pools: Sequence[str] = (POOL,), **pool: Any) -> GatewaySettings:
    """Of a gateway with these pools, which all serve MODEL."""
    facts = {
        "queue_url": "q",
        "dead_letter_queue_url": "d",
        "group_name": "g",
        "fallback": [],
        "served_model_name": MODEL,
        "max_model_len_tokens": 8192,
        "expected_output_tokens": 100,
        "engine_keep_alive_seconds": 5,
        "units_per_instance": 1,
        "max_units": 4,
        "launch_hook_seconds": 600,
        "usd_per_million_output_tokens": 2.0,
    }
    names = ("registry_table", "batch_table", "keys_table", "batch_files_bucket", "batch_results_bucket")
    return GatewaySettings.model_validate(
        {
            "version": 2,
            "pattern": "test",
            "region": "us-east-1",
            "metrics_namespace": "LlmFleet",
            "routes": {pool: pool for pool in pools},
            "pools": dict.fromkeys(pools, facts | pool),
        }
        | dict.fromkeys(names, "unused")
    )


class RunningGateway:
    """`engines` serve the first pool, one instance each."""

    def __init__(
        self,
        engines: Sequence[EngineStandIn | Engine] = (),
        *,
        wire: WireLimits = FAST,
        exchange: ExchangeLimits | None = None,
        given: GatewaySettings | None = None,
        routes: Sequence[Route] = (),
        slots: int = 64,
    ) -> None:
        self.settings = given or settings()
        if exchange is not None:
            self.settings = self.settings.model_copy(update={"exchange": exchange})
        self.table = KeyTable()
        self.key = self.table.add("test")
        self.log = io.BytesIO()
        self._engines = [each.engine if isinstance(each, EngineStandIn) else each for each in engines]
        self._engines = [Engine(each.host, each.port, slots) for each in self._engines]
        self._wire, self._routes = wire, routes
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> RunningGateway:
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.gateway.drain(0))
        self.run(asyncio.sleep(0.01))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        given, no_aws = self.settings, NoAws()
        self.events = io.StringIO()
        log = JsonLog("gateway", self.events)
        self.balancer = Balancer()
        self.room = WaitingRoom(self.balancer)
        self.keys = KeyStore(self.table, given.keys_table, log)  # pyright: ignore[reportArgumentType]
        self.keys.load()
        publisher = Publisher(no_aws, given.metrics_namespace, given.pattern)  # pyright: ignore[reportArgumentType]
        waker = Waker(no_aws, given.pools, log)  # pyright: ignore[reportArgumentType]
        self.meters = Meters(given.pools, self.balancer, self.room, publisher, log, self.log)
        parts = Parts(self.keys, Limits(), self.balancer, self.room, waker, self.meters, log, self._routes)
        self.gateway = Gateway(given, parts, self._wire)
        self._learn(next(iter(given.pools)), self._engines)
        self.port = await self.gateway.listen("127.0.0.1", 0)

    def _learn(self, pool: str, engines: Sequence[Engine]) -> None:
        workers = [
            WorkerEntry(pool, f"i-{number}", "serving", (engine,), "g5.xlarge", 1, 0, 0, 0, time.time() + 3600)
            for number, engine in enumerate(engines)
        ]
        self.balancer.learn(pool, workers, 1)

    def serve(self, pool: str, *engines: Engine) -> None:
        """From now on these serve the pool."""
        self._loop.call_soon_threadsafe(self._learn, pool, engines)
        self.run(asyncio.sleep(0))

    def call_soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Call it on the gateway's loop."""
        self._loop.call_soon_threadsafe(call, *arguments)

    def run(self, work: Any) -> Any:
        """Run a coroutine on the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def client(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        """The official client."""
        options = {"max_retries": 0, "timeout": 20, **options}
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key or self.key, **options)

    def socket(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def outstanding(self) -> int:
        """Leases that are held."""
        return sum(self.balancer.outstanding(pool) for pool in self.settings.pools)

    def lines(self) -> list[dict[str, Any]]:
        """The log lines of finished requests, once none is under way: a client may be done before its request is."""
        wait_until(lambda: self.outstanding() == 0, "every lease ends")
        self._loop.call_soon_threadsafe(self.meters.flush)
        self.run(asyncio.sleep(0))
        return [orjson.loads(line) for line in self.log.getvalue().splitlines()]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of this event, other than those of requests."""
        lines = [orjson.loads(line) for line in self.events.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def request(self, facts: Any = CHAT, path: str = "/v1/chat/completions", *headers: str) -> bytes:
        """The bytes of a request with a key."""
        body = facts if isinstance(facts, bytes) else orjson.dumps(facts)
        lines = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {self.key}", *headers]
        if not any(line.lower().startswith("transfer-encoding") for line in headers):
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
