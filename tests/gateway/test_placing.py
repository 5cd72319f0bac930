"""Decisions that are remembered are those that the rule would make."""

from __future__ import annotations

import time
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from llm_fleet import routing
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.completions import ENDPOINTS, Wanted
from llm_fleet.gateway.placing import Placing
from llm_fleet.gateway.settings import GatewaySettings, PoolSettings
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.json_log import JsonLog
from llm_fleet.registry import Engine, WorkerEntry

CONTEXTS = {"high_performance": 8192, "cost_efficient": 4096, "batch_processing": 2000}
TOKENS = sorted({1, 10_000, *(mark + step for mark in (2048, *CONTEXTS.values()) for step in (-1, 0, 1))})


def pool(name: str) -> PoolSettings:
    return PoolSettings(
        queue_url="",
        dead_letter_queue_url="",
        group_name=name,
        fallback=tuple(other for other in CONTEXTS if other != name),
        served_model_name="small" if name == "batch_processing" else "large",
        max_model_len_tokens=CONTEXTS[name],
        expected_output_tokens=100,
        engine_keep_alive_seconds=60,
        units_per_instance=1,
        max_units=1,
        launch_hook_seconds=60,
        usd_per_million_output_tokens=None,
    )


def settings() -> GatewaySettings:
    names = dict.fromkeys(("registry_table", "batch_table", "keys_table", "batch_files_bucket"), "none")
    return GatewaySettings(
        version=2,
        pattern="p",
        region="us-east-1",
        metrics_namespace="n",
        batch_results_bucket="none",
        routes={name: name for name in CONTEXTS},
        pools={name: pool(name) for name in CONTEXTS},
        **names,
    )


class World:
    """A placing whose memory lasts from example to example, and one that remembers nothing."""

    def __init__(self) -> None:
        self.balancer = Balancer()
        self.document = settings()
        self.remembering = self.placing()

    def placing(self) -> Placing:
        waker = Waker(None, self.document.pools, JsonLog("test"))  # pyright: ignore[reportArgumentType] wakes nobody
        return Placing(self.document, self.balancer, WaitingRoom(self.balancer), waker)

    def set_workers(self, serving: frozenset[str]) -> None:
        for number, name in enumerate(CONTEXTS):
            engine = Engine("127.0.0.1", 1000 + number, 1)
            entry = WorkerEntry(name, f"w{number}", "serving", (engine,), "t", 1, 0, 0, 0, time.time() + 60)
            self.balancer.learn(name, [entry] if name in serving else [], 1)


WORLD = World()
requests = st.builds(
    Wanted,
    endpoint=st.just(ENDPOINTS[0]),
    model=st.sampled_from(["small", "large"]),
    stream=st.booleans(),
    priority=st.sampled_from(get_args(routing.Priority)),
    budget=st.sampled_from(get_args(routing.Budget)),
    prompt_tokens=st.just(1),
    output_tokens=st.just(1),
    tokens=st.sampled_from(TOKENS),
    affinity=st.none(),
)


@given(wanted=requests, serving=st.frozensets(st.sampled_from(sorted(CONTEXTS))))
def test_a_remembered_decision_is_the_one_that_the_rule_makes(wanted: Wanted, serving: frozenset[str]) -> None:
    WORLD.set_workers(serving)
    assert WORLD.remembering.choose(wanted) == WORLD.placing().choose(wanted)
