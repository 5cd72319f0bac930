"""Boots and compiled shapes in the plan: what they take, what they cost, and how early a schedule starts."""

from __future__ import annotations

import pytest

from llm_fleet.planning import plan_fleet
from llm_fleet.planning.plan import PoolPlan


def pool(pattern: str, role: str) -> PoolPlan:
    """One pool of a pattern."""
    return next(pool for pool in plan_fleet(pattern).pools if pool.role == role)


def test_a_night_of_batches_pays_for_the_boots_that_it_asks_for() -> None:
    """One instance starts every night, 730 / 24 times a month, and is paid from its launch on; half of it on spot or
    not: at most the on-demand price, at least the spot price.
    """
    best = pool("scaling-startup", "batch_processing").choices[0]
    nights, hours = 730 / 24, best.boot.later_s / 3600
    assert best.spot_usd_per_hour is not None
    least, most = best.spot_usd_per_hour, best.on_demand_usd_per_hour
    assert nights * hours * least * 0.99 <= best.boot.usd_per_month <= nights * hours * most * 1.01


def test_a_steady_pool_has_no_boots_that_can_be_foreseen() -> None:
    assert pool("startup-mvp", "cost_efficient").choices[0].boot.usd_per_month == 0


def test_the_month_of_a_choice_holds_its_boots() -> None:
    night = pool("scaling-startup", "batch_processing")
    assert night.cost.expected.usd_per_month == pytest.approx(night.choices[0].usd_per_month, abs=0.02)
    assert night.choices[0].boot.usd_per_month > 0


def test_the_stages_of_a_boot_add_up_between_its_bounds() -> None:
    for plan in (plan_fleet("scaling-startup"), plan_fleet("cost-optimized-scale")):
        for choice in (choice for pool in plan.pools for choice in pool.choices):
            assert sum(choice.boot.later_stages_s.values()) == pytest.approx(choice.boot.later_s, abs=2)
            assert choice.boot.later_low_s <= choice.boot.later_s <= choice.boot.later_high_s
            assert choice.boot.later_s <= choice.boot.first_s


def test_neuron_names_its_compiled_shapes_and_what_they_cost_once_and_gpus_have_none() -> None:
    neuron = pool("cost-optimized-scale", "cost_efficient").choices[0]
    assert neuron.compiled is not None
    assert neuron.compiled.batches == (neuron.max_num_seqs,)
    assert max(neuron.compiled.prompt_buckets_tokens) == neuron.max_model_len_tokens
    dollars = neuron.compiled.compile_s / 3600 * neuron.on_demand_usd_per_hour
    assert neuron.compiled.compile_usd == pytest.approx(dollars, rel=0.01)
    assert "compile" not in neuron.boot.later_stages_s
    assert pool("startup-mvp", "cost_efficient").choices[0].compiled is None


def test_a_prompt_that_does_not_fill_its_bucket_is_waste() -> None:
    """512 tokens fill the bucket of 512."""
    compiled = pool("cost-optimized-scale", "cost_efficient").choices[0].compiled
    assert compiled is not None
    assert 512 in compiled.prompt_buckets_tokens
    assert compiled.prompt_waste == 0


def test_a_schedule_starts_instances_a_slow_boot_before_the_hour() -> None:
    """Night starts at 22: a boot of up to 17 minutes is begun 20 before it."""
    night = pool("scaling-startup", "batch_processing")
    slow_minutes = night.choices[0].boot.later_high_s / 60
    minute, hour = night.scaling.schedules[0].cron.split()[:2]
    lead = (22 - int(hour)) * 60 - int(minute)
    assert max(15, slow_minutes) <= lead < max(15, slow_minutes) + 5
