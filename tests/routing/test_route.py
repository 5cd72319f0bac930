"""From the role to a pool: what excludes one, what takes over, and what the answer says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.routing import NoRoute, Route, RoutePool, RouteRequest, State, asked_role, route

ROLES = ("high_performance", "cost_efficient", "batch_processing")
CHAINS = {
    "high_performance": ("cost_efficient",),
    "cost_efficient": ("high_performance",),
    "batch_processing": ("cost_efficient", "high_performance"),
}
RANK: dict[State, int] = {"ready": 0, "saturated": 1, "empty": 2}


def pool(state: State = "ready", model: str = "small", longest: int = 8192) -> RoutePool:
    return RoutePool(model, longest, state)


def default(tokens: int = 100, model: str = "small") -> RouteRequest:
    return RouteRequest(model, "default", "moderate", tokens)


def fleet(**pools: RoutePool) -> dict[str, RoutePool]:
    return pools


def decision(found: Route | NoRoute) -> tuple[str, str, str]:
    assert isinstance(found, Route)
    return found.pool, found.state, found.reason


def test_the_asked_role_takes_the_request_when_it_is_ready() -> None:
    pools = fleet(cost_efficient=pool(), high_performance=pool())
    assert decision(route(default(), pools, CHAINS)) == ("cost_efficient", "ready", "default")


def test_a_missing_role_falls_back_along_its_chain() -> None:
    pools = fleet(high_performance=pool())
    expected = ("high_performance", "ready", "default; cost_efficient missing")
    assert decision(route(default(), pools, CHAINS)) == expected


def test_a_saturated_role_falls_back_to_a_ready_one() -> None:
    pools = fleet(cost_efficient=pool("saturated"), high_performance=pool())
    expected = ("high_performance", "ready", "default; cost_efficient saturated")
    assert decision(route(default(), pools, CHAINS)) == expected


def test_the_first_saturated_pool_is_waited_for_when_none_is_ready() -> None:
    pools = fleet(cost_efficient=pool("empty"), high_performance=pool("saturated"), batch_processing=pool("saturated"))
    pool_chosen, state, reason = decision(route(default(), pools, CHAINS))
    assert (pool_chosen, state) == ("high_performance", "saturated")
    assert "cost_efficient empty" in reason


def test_the_asked_role_is_woken_when_all_are_empty() -> None:
    pools = fleet(high_performance=pool("empty"), cost_efficient=pool("empty"))
    assert decision(route(default(), pools, CHAINS))[:2] == ("cost_efficient", "empty")


def test_a_pool_whose_context_is_too_short_is_passed_over_and_named() -> None:
    pools = fleet(cost_efficient=pool(longest=1000), high_performance=pool(longest=4000))
    expected = ("high_performance", "ready", "default; cost_efficient too-short")
    assert decision(route(default(tokens=1500), pools, CHAINS)) == expected


def test_a_request_that_fits_no_pool_is_told_the_longest_context_of_its_model() -> None:
    pools = fleet(
        cost_efficient=pool(longest=1000), high_performance=pool(longest=4000), other=pool("ready", "big", 9999)
    )
    assert route(default(tokens=4001), pools, CHAINS) == NoRoute("too_long", 4000)


def test_an_unknown_model_has_no_route() -> None:
    assert route(default(model="nope"), fleet(cost_efficient=pool()), CHAINS) == NoRoute("unknown_model")


def test_a_model_that_only_an_undeclared_role_serves_is_served() -> None:
    pools = fleet(cost_efficient=pool(), batch_processing=pool(model="big"))
    assert decision(route(default(model="big"), pools, CHAINS))[0] == "batch_processing"


REQUESTS = st.builds(
    RouteRequest,
    st.sampled_from(["small", "big", "nope"]),
    st.sampled_from(["realtime", "default", "batch"]),
    st.sampled_from(["flexible", "moderate", "strict"]),
    st.integers(min_value=0, max_value=10_000),
)
POOLS = st.dictionaries(
    st.sampled_from([*ROLES, "another"]),
    st.builds(
        RoutePool,
        st.sampled_from(["small", "big"]),
        st.sampled_from([1000, 2048, 4096, 8192]),
        st.sampled_from(["ready", "saturated", "empty"]),
    ),
)
CHOICES = st.lists(st.sampled_from([*ROLES, "another"]), unique=True, max_size=4)


def can(each: RoutePool, request: RouteRequest) -> bool:
    return each.model == request.model and request.tokens <= each.max_model_len_tokens


@given(REQUESTS, POOLS, st.dictionaries(st.sampled_from(ROLES), CHOICES))
def test_the_pool_can_hold_the_request_serves_its_model_and_none_that_can_is_in_a_better_state(
    request: RouteRequest, pools: Mapping[str, RoutePool], chains: Mapping[str, Sequence[str]]
) -> None:
    found = route(request, pools, chains)
    able = {role: each for role, each in pools.items() if can(each, request)}
    if isinstance(found, NoRoute):
        assert not able
    else:
        assert found.pool in able
        assert found.state == able[found.pool].state
        assert RANK[found.state] == min(RANK[each.state] for each in able.values())
        assert found.role == asked_role(request)[0]


@given(REQUESTS, POOLS, st.dictionaries(st.sampled_from(ROLES), CHOICES))
def test_of_pools_in_the_same_state_the_first_of_the_chain_is_chosen(
    request: RouteRequest, pools: Mapping[str, RoutePool], chains: Mapping[str, Sequence[str]]
) -> None:
    found = route(request, pools, chains)
    if isinstance(found, Route):
        order = [found.role, *chains.get(found.role, ())]
        equal = [role for role, each in pools.items() if can(each, request) and each.state == found.state]
        first = [role for role in order if role in equal]
        assert found.pool == (first[0] if first else equal[0])


@given(REQUESTS, POOLS, st.dictionaries(st.sampled_from(ROLES), CHOICES))
def test_the_same_input_gives_the_same_output(
    request: RouteRequest, pools: Mapping[str, RoutePool], chains: Mapping[str, Sequence[str]]
) -> None:
    assert route(request, pools, chains) == route(request, dict(pools), dict(chains))
