"""Which pool takes a request, and its place there: now, after a wait, or never."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from llm_fleet import routing
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.completions import Wanted
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.routing import NoRoute, Route, RoutePool, RouteRequest

_Case = tuple[str, routing.Priority, routing.Budget, int, tuple[routing.State, ...]]
"""Model, priority, budget, marks that the tokens pass, states of the pools: some hundreds at most."""
STATES: tuple[routing.State, ...] = ("ready", "saturated", "empty")


class Placing:
    """The pools, the rule and what decides on places."""

    def __init__(self, settings: GatewaySettings, balancer: Balancer, room: WaitingRoom, waker: Waker) -> None:
        self.balancer = balancer
        self.room = room
        self.waker = waker
        # Made once: a request only picks those that its pools' states call for.
        self._by_state = {
            name: {state: RoutePool(pool.served_model_name, pool.max_model_len_tokens, state) for state in STATES}
            for name, pool in settings.pools.items()
        }
        self._chains = settings.chains()
        contexts = {pool.max_model_len_tokens for pool in settings.pools.values()}
        self._marks = sorted({routing.LONG_REQUEST_TOKENS, *contexts})
        self._decisions: dict[_Case, Route | NoRoute] = {}

    def choose(self, wanted: Wanted) -> Route | NoRoute:
        """The rule's decision, with the pools' present states.

        Decisions are remembered: the rule reads of the tokens only which of its marks they pass.
        """
        states: tuple[routing.State, ...] = tuple([self.balancer.state(name) for name in self._by_state])
        passed = bisect_left(self._marks, wanted.tokens)
        case = (wanted.model, wanted.priority, wanted.budget, passed, states)
        decision = self._decisions.get(case)
        if decision is None:
            decision = self._decisions[case] = self._decide(wanted, states)
        return decision

    def choose_but(self, wanted: Wanted, saturated: str) -> Route | NoRoute:
        """The rule's decision as if this pool had no room."""
        return self._decide(
            wanted, ["saturated" if name == saturated else self.balancer.state(name) for name in self._by_state]
        )

    def _decide(self, wanted: Wanted, states: Iterable[routing.State]) -> Route | NoRoute:
        pools = {name: by_state[state] for (name, by_state), state in zip(self._by_state.items(), states, strict=True)}
        request = RouteRequest(wanted.model, wanted.priority, wanted.budget, wanted.tokens)
        return routing.route(request, pools, self._chains)
