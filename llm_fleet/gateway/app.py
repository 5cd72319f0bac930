"""The gateway put together: from its settings the parts, from the parts the layers, from the layers the server."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.completions import models_of
from llm_fleet.gateway.finder import Finder
from llm_fleet.gateway.http import Route
from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.layers import Services, chain, layers
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.meters import Meters
from llm_fleet.gateway.models_api import ModelsApi
from llm_fleet.gateway.placing import Placing
from llm_fleet.gateway.relays import Relays
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.gateway.steps import OpenAnswer
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.gateway.wire.engines import Engines
from llm_fleet.gateway.wire.limits import WireLimits
from llm_fleet.gateway.wire.server import Server
from llm_fleet.json_log import JsonLog


@dataclass(frozen=True)
class Parts:
    """What decides and counts. `routes` are endpoints besides the models: files and batches."""

    keys: KeyStore
    limits: Limits
    balancer: Balancer
    room: WaitingRoom
    waker: Waker
    meters: Meters
    log: JsonLog
    routes: Iterable[Route] = ()


class Gateway:
    """The gateway as clients see it. Made inside a running loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        parts: Parts,
        wire: WireLimits | None = None,
    ) -> None:
        wire = wire or WireLimits()
        models = models_of(settings.pools.values())
        self._meters = parts.meters
        self._engines = Engines(min(pool.engine_keep_alive_seconds for pool in settings.pools.values()))
        prices = {
            name: None if usd is None else usd / 1e6
            for name, usd in ((name, pool.usd_per_million_output_tokens) for name, pool in settings.pools.items())
        }
        placing = Placing(settings, parts.balancer, parts.room, parts.waker)
        relays = Relays(placing, self._engines, settings.exchange, prices, parts.log)
        finder = Finder()
        self.layers = layers(Services(parts.keys, parts.limits, parts.meters, relays, models, wire), finder.find)
        routes = [*ModelsApi(models, int(time.time())).routes(), *parts.routes]
        # Metrics are on the API's port, which only the VPC reaches, so a scraper inside needs no key. What comes from
        # outside comes through the load balancer, and is told that there is nothing.
        open_answers = [OpenAnswer("/health", self._health), OpenAnswer("/metrics", self._metrics, inside_only=True)]
        finder.place(self.layers, open_answers, routes)
        self.server = Server(chain(self.layers, None), wire, parts.log)

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; the port."""
        return await self.server.listen(host, port)

    async def drain(self, at_most_s: float) -> None:
        """Accept no more, finish what runs, then end."""
        await self.server.drain(at_most_s)
        self._engines.close()

    def _health(self) -> tuple[int, str, bytes]:
        if self.server.draining:
            return 503, "text/plain", b"draining\n"
        return 200, "text/plain", b"ok\n"

    def _metrics(self) -> tuple[int, str, bytes]:
        return 200, "text/plain; version=0.0.4; charset=utf-8", self._meters.prometheus()
