"""Which pool takes a request, and its place there: now, after a wait, or never."""

from __future__ import annotations

from collections.abc import Mapping

from llm_fleet import routing
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.completions import Wanted
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.routing import NoRoute, Route, RoutePool, RouteRequest

STATES: tuple[routing.State, ...] = ("ready", "saturated", "empty")


class Placing:
    """The pools, the rule and what decides on places."""

    def __init__(self, settings: GatewaySettings, balancer: Balancer, room: WaitingRoom, waker: Waker) -> None:
        self.balancer = balancer
        self.room = room
        self.waker = waker
        # Made once: a request only picks those that its pools' states call for.
        self._by_state = {
            name: {
                state: RoutePool(pool.served_model_name, pool.max_model_len_tokens, pool.fallback, state)
                for state in STATES
            }
            for name, pool in settings.pools.items()
        }
        self._chains = {name: pool.fallback for name, pool in settings.pools.items()}
        for role, name in settings.routes.items():
            self._chains.setdefault(role, (name, *settings.pools[name].fallback))

    def choose(self, wanted: Wanted, states: Mapping[str, routing.State] | None = None) -> Route | NoRoute:
        """The rule's decision, with the pools' present states or those given."""
        state = self.balancer.state
        pools = {
            name: by_state[states[name] if states and name in states else state(name)]
            for name, by_state in self._by_state.items()
        }
        request = RouteRequest(wanted.model, wanted.priority, wanted.budget, wanted.tokens)
        return routing.route(request, pools, self._chains)
