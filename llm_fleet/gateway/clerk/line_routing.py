"""Which queue a line goes to: the gateway's routing rule, for a request that can wait."""

from __future__ import annotations

from typing import Any

from llm_fleet.batches.results import Failure
from llm_fleet.gateway.settings import GatewaySettings, PoolSettings
from llm_fleet.gateway.token_estimate import estimate
from llm_fleet.routing import NoRoute, RoutePool, RouteRequest, route


class LineRouter:
    """Of one settings document."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        # A queue is durable: an empty pool is woken by what waits in it, so every pool counts as ready.
        self._pools = {
            name: RoutePool(pool.served_model_name, pool.max_model_len_tokens, "ready")
            for name, pool in settings.pools.items()
        }
        self._chains = settings.chains()
        self.models = frozenset(pool.served_model_name for pool in settings.pools.values())

    def queue_url(self, endpoint: str, body: dict[str, Any]) -> str | Failure:
        """The queue of the pool that takes the request, or why none ever can."""
        model = str(body.get("model"))
        serving = [pool for pool in self._settings.pools.values() if pool.served_model_name == model]
        tokens = self._tokens(endpoint, body, serving) if serving else 0
        found = route(RouteRequest(model, "batch", "strict", tokens), self._pools, self._chains)
        if not isinstance(found, NoRoute):
            return self._settings.pools[found.pool].queue_url
        if found.problem == "unknown_model":
            return Failure("model_not_found", f"There is no model {model[:80]!r} any more.")
        return Failure(
            "context_length_exceeded",
            f"This model's maximum context length is {found.longest_tokens} tokens, and the request needs at least "
            f"{tokens} (prompt + maximum completion). Shorten the prompt or lower the maximum.",
        )

    def _tokens(self, endpoint: str, body: dict[str, Any], serving: list[PoolSettings]) -> int:
        expected = min(pool.expected_output_tokens for pool in serving)
        longest = max(pool.max_model_len_tokens for pool in serving)
        return estimate(endpoint, body).tokens(expected, longest)
