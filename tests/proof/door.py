"""A gateway with engines behind it, as a client meets it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import openai

from tests.proof.answers import MODEL
from tests.proof.fleet import Fleet, Gateway
from tests.proof.instances import EngineProcess
from tests.proof.processes import Process, wait_until
from tests.proof.raw import Reply, ask, gauges, request

POOL = "cost_efficient"
CHAT = "/v1/chat/completions"


@dataclass
class Door:
    """The gateway and what is behind it."""

    fleet: Fleet
    gateway: Gateway
    engines: list[EngineProcess]
    workers: list[Process]

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def key(self) -> str:
        return self.fleet.key

    def client(self, key: str = "") -> openai.OpenAI:
        """The official client, without retries of its own."""
        return openai.OpenAI(base_url=self.gateway.base_url, api_key=key or self.key, max_retries=0, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None, key: str = "", **headers: str) -> Reply:
        """One raw request with a key."""
        return ask(self.port, request(method, path, key or self.key, body, **headers), method)

    def chat(self, prompt: str, **more: Any) -> Reply:
        """One raw chat request."""
        return self.ask("POST", CHAT, chat_body(prompt, **more))

    def started(self) -> int:
        """Requests that reached an engine so far."""
        return sum(engine.counts()["started"] for engine in self.engines if engine.running)

    def in_flight(self) -> int:
        """Requests that engines work on."""
        return sum(engine.counts()["in_flight"] for engine in self.engines if engine.running)

    def settle(self) -> None:
        """Wait until all engines are in use again: back to normal, known, trusted; nothing under way."""
        for engine in self.engines:
            if not engine.running:
                engine.restart()
            engine.order("accept")
            engine.order("mode")

        def settled() -> bool:
            self.chat("settling")  # a breaker closes by a request that passes
            said = gauges(self.port)
            return (
                said[f'llm_fleet_workers{{pool="{POOL}",state="serving"}}'] == len(self.engines)
                and said[f'llm_fleet_breakers{{pool="{POOL}",state="closed"}}'] == len(self.engines)
                and not under_way(self.port)
            )

        wait_until(settled, 120, "every engine is in use", self.gateway.story)

    def is_idle(self) -> bool:
        """Whether nothing is under way, by the gateway's word and the engines'."""
        return not self.in_flight() and not under_way(self.port)


def open_door(fleet: Fleet, engines: int) -> Door:
    """Start it all and wait until it is in use."""
    running = [fleet.start_engine() for _ in range(engines)]
    workers = [fleet.start_worker_without_imds(POOL, engine) for engine in running]
    door = Door(fleet, fleet.start_gateway(), running, workers)
    door.settle()
    return door


def under_way(port: int) -> dict[str, float]:
    """What the gateway says of requests that wait or run, where it is not nothing."""
    levels = ("llm_fleet_waiting", "llm_fleet_running")
    return {name: value for name, value in gauges(port).items() if name.startswith(levels) and value}


def chat_body(prompt: str, **more: Any) -> bytes:
    """The JSON of a chat request."""
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": prompt}], **more}).encode()
