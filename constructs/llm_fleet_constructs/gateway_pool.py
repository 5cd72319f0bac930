"""What the gateway is told of a pool, from the pool's plan. Needs no CDK: the local fleet writes the same."""

from __future__ import annotations

from llm_fleet.gateway.settings import PoolSettings
from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs.boot.engine_arguments import KEEP_ALIVE_S


def gateway_pool(plan: PoolPlan, *, queue_url: str, dead_letter_queue_url: str, group_name: str) -> PoolSettings:
    """The pool's part of the gateway's document. Names may be tokens."""
    return PoolSettings(
        queue_url=queue_url,
        dead_letter_queue_url=dead_letter_queue_url,
        group_name=group_name,
        fallback=tuple(plan.fallback),
        served_model_name=plan.served_model_name,
        max_model_len_tokens=min(choice.max_model_len_tokens for choice in plan.choices),
        expected_output_tokens=plan.load.output_tokens,
        engine_keep_alive_seconds=KEEP_ALIVE_S,
        units_per_instance=plan.scaling.units_per_instance,
        max_units=plan.scaling.max_units,
        launch_hook_seconds=plan.scaling.launch_hook_seconds,
        usd_per_million_output_tokens=plan.cost.expected.usd_per_million_output_tokens,
    )
