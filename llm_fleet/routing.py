"""The routing rule: (request, pools) -> (pool, why). Pure; gateway, tests and simulator call this one function.

The rule is the article's (`llm_fleet.guide.route_request`); what it lacks is added around it: pools that cannot hold
the request or serve another model are left out, and a role that is missing, empty or saturated falls back along the
chain that its pattern declares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Priority = Literal["realtime", "default", "batch"]
Budget = Literal["flexible", "moderate", "strict"]
State = Literal["ready", "saturated", "empty"]
"""Of a pool: takes a request now; has workers and no room; has no worker that serves."""

LONG_REQUEST_TOKENS = 2048
"""The article's mark: prompt + maximum completion above it go to the high_performance pool."""
SERVICE_TIERS: Mapping[str, tuple[Priority, Budget]] = {
    "priority": ("realtime", "flexible"),
    "default": ("default", "moderate"),
    "auto": ("default", "moderate"),
    "flex": ("batch", "strict"),
}
"""OpenAI's `service_tier` in the article's words."""


@dataclass(frozen=True)
class RouteRequest:
    """What the rule reads of a request."""

    model: str
    priority: Priority
    budget: Budget
    tokens: int
    """Prompt + maximum completion."""


@dataclass(frozen=True)
class RoutePool:
    """What the rule reads of a pool."""

    model: str
    """The name it serves its model by."""
    max_model_len_tokens: int
    state: State


@dataclass(frozen=True)
class Route:
    """The decision. `state` is what the pool's state was: only "ready" can take the request now."""

    pool: str
    state: State
    role: str
    """The role that the rule asks for."""
    reason: str
    """For people and programs: the rule that decided, and each pool passed over with why."""


@dataclass(frozen=True)
class NoRoute:
    """Nothing can serve it, now or later."""

    problem: Literal["unknown_model", "too_long"]
    longest_tokens: int = 0
    """The largest context of the pools that serve the model."""


def asked_role(request: RouteRequest) -> tuple[str, str]:
    """The article's rule alone: the role, and the name of the condition that decided."""
    if request.priority == "realtime" and request.budget == "flexible":
        return "high_performance", "realtime-flexible"
    if request.tokens > LONG_REQUEST_TOKENS:
        return "high_performance", f"over-{LONG_REQUEST_TOKENS}-tokens"
    if request.priority == "batch":
        return "batch_processing", "batch"
    return "cost_efficient", "default"


def route(
    request: RouteRequest, pools: Mapping[str, RoutePool], chains: Mapping[str, Sequence[str]]
) -> Route | NoRoute:
    """Choose a pool. `pools` by role; `chains` gives, for each role, the roles that take over, in order.

    The first pool of the chain that is ready wins; else the first saturated one (it will have room soonest), else the
    first empty one (it can be woken).
    """
    serving = {role: pool for role, pool in pools.items() if pool.model == request.model}
    if not serving:
        return NoRoute("unknown_model")
    longest = max(pool.max_model_len_tokens for pool in serving.values())
    if request.tokens > longest:
        return NoRoute("too_long", longest)
    role, condition = asked_role(request)
    # Roles outside the declared chain come last: a model that only another role serves is served all the same.
    order = dict.fromkeys((role, *chains.get(role, ()), *serving))
    passed: list[str] = []
    waiting: dict[State, str] = {}
    for each in order:
        pool = serving.get(each)
        problem = _cannot(pool, request)
        if pool is not None and not problem:
            if pool.state == "ready":
                return Route(each, "ready", role, _reason(condition, passed))
            problem = pool.state
            waiting.setdefault(pool.state, each)
        passed.append(f"{each} {problem}")
    state: State = "saturated" if "saturated" in waiting else "empty"
    return Route(waiting[state], state, role, _reason(condition, passed))


def _cannot(pool: RoutePool | None, request: RouteRequest) -> str:
    """Why a pool can never take the request; empty where it can."""
    if pool is None:
        return "missing"
    return "too-short" if request.tokens > pool.max_model_len_tokens else ""


def _reason(condition: str, passed: Sequence[str]) -> str:
    return "; ".join((condition, *passed))
