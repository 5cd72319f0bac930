"""What a plan says of boldness, of its evidence, and of the levers that it leaves to the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_fleet.catalog import load_catalog
from llm_fleet.documents import CONFIGS
from llm_fleet.errors import InputError
from llm_fleet.models import load_models
from llm_fleet.planning import plan_fleet
from llm_fleet.planning.plan import FleetPlan, Lever, PoolPlan
from llm_fleet.sizing.forecast import Shape, forecast, setup_on

PATTERNS = ("cost-optimized-scale", "enterprise-production", "scaling-startup", "startup-mvp")


@pytest.fixture(scope="module", params=PATTERNS)
def plan(request: pytest.FixtureRequest) -> FleetPlan:
    return plan_fleet(request.param)


def levers(pool: PoolPlan, kind: str) -> list[Lever]:
    """The pool's levers of one kind."""
    return [lever for lever in pool.levers if lever.kind == kind]


def test_every_prediction_of_a_plan_carries_its_interval_and_evidence(plan: FleetPlan) -> None:
    for pool in plan.pools:
        for choice in pool.choices:
            assert choice.low_output_tokens_per_s < choice.output_tokens_per_s < choice.high_output_tokens_per_s
            assert choice.low_tpot_ms < choice.tpot_ms < choice.high_tpot_ms
            assert choice.evidence.interval_factor > 1
            assert choice.evidence.measured_points >= 0
            assert choice.evidence.nearest


def test_the_marks_hold_at_the_slow_end_of_the_interval(plan: FleetPlan) -> None:
    for pool in plan.pools:
        for choice in pool.choices:
            assert choice.high_tpot_ms <= pool.marks.tpot_ms
            assert choice.high_ttft_ms <= pool.marks.ttft_ms


def test_capacity_is_bought_by_the_low_end(plan: FleetPlan) -> None:
    """At expected load, instances x low rate x 0.8 (the target utilisation) holds it; one instance fewer would not."""
    for pool in plan.pools:
        best = pool.choices[0]
        rate = pool.load.expected_requests_per_s
        assert best.instances_at_expected_load * best.low_requests_per_s * 0.8 >= rate * 0.999
        if best.instances_at_expected_load > max(1, pool.scaling.min_instances):
            assert (best.instances_at_expected_load - 1) * best.low_requests_per_s * 0.8 < rate


def test_boldness_never_costs_more_than_caution(plan: FleetPlan) -> None:
    for pool in plan.pools:
        assert pool.boldness.saves_usd_per_month >= 0
        cautious = pool.choices[0].usd_per_month
        assert pool.boldness.usd_per_month == pytest.approx(cautious - pool.boldness.saves_usd_per_month, abs=0.02)


def test_levers_say_what_they_save_and_what_they_cost_in_quality_or_that_nobody_knows(plan: FleetPlan) -> None:
    for pool in plan.pools:
        assert pool.levers
        for lever in pool.levers:
            assert lever.quality_source
            if lever.usd_per_month is not None:
                saved = pool.choices[0].usd_per_month - lever.usd_per_month
                assert lever.saves_usd_per_month == pytest.approx(saved, abs=0.02)
            else:
                assert "no type can serve" in lever.note


def test_levers_stand_by_saving(plan: FleetPlan) -> None:
    for pool in plan.pools:
        savings = [lever.saves_usd_per_month for lever in pool.levers if lever.saves_usd_per_month is not None]
        assert savings == sorted(savings, reverse=True)


@pytest.mark.parametrize("kind", ["precision", "model", "kv_precision"])
def test_a_lever_that_is_taken_costs_what_the_plan_said(kind: str) -> None:
    pool = plan_fleet("scaling-startup").pools[0]
    lever = next(lever for lever in levers(pool, kind) if lever.usd_per_month is not None)
    words = lever.how.removeprefix("-c ").split(" -c ")
    taken = plan_fleet("scaling-startup", dict(word.split("=", 1) for word in words)).pools[0]
    assert taken.choices[0].instance_type == lever.instance_type
    assert taken.choices[0].usd_per_month == pytest.approx(lever.usd_per_month, abs=0.01)


def test_quality_is_the_articles_figure_where_it_has_one_and_says_so() -> None:
    """int8 loses 2 % and int4 8 %, by the article; no figure is invented for fp8 or for the cache."""
    pool = plan_fleet("scaling-startup").pools[0]
    by_change = {lever.change: lever for lever in levers(pool, "precision")}
    assert by_change["fp16 -> int8"].quality_retained_percent == 98
    assert by_change["fp16 -> int4"].quality_retained_percent == 92
    assert "article" in by_change["fp16 -> int4"].quality_source
    assert by_change["fp16 -> fp8"].quality_retained_percent is None
    assert levers(pool, "kv_precision")[0].quality_retained_percent is None


def test_siblings_are_smaller_models_of_the_same_family_the_nearest_first() -> None:
    pool = plan_fleet("enterprise-production").pools[0]
    changes = {lever.how for lever in levers(pool, "model")}
    assert changes == {"-c model=meta-llama/Llama-2-13b-hf", "-c model=meta-llama/Llama-2-7b-hf"}


def test_a_format_without_a_known_checkpoint_is_a_lever_with_a_note() -> None:
    pool = plan_fleet("scaling-startup").pools[0]
    lever = next(one for one in levers(pool, "precision") if one.change == "fp16 -> int8")
    assert "no int8 checkpoint is known" in lever.note


def test_a_shorter_context_is_a_lever_only_while_it_holds_twice_the_mean_request() -> None:
    pool = plan_fleet("startup-mvp").pools[0]
    assert [lever.change for lever in levers(pool, "context")] == ["4096 -> 2048 tokens"]
    batch = next(pool for pool in plan_fleet("scaling-startup").pools if pool.role == "batch_processing")
    assert not levers(batch, "context"), "1,536 tokens a request: twice that is the context already"


def test_an_eight_bit_cache_keeps_to_gpus_that_compute_eight_bit_floats() -> None:
    pool = plan_fleet("startup-mvp", {"kv_precision": "fp8"}).pools[0]
    assert all(choice.kv_precision == "fp8" for choice in pool.choices)
    reasons = {item.instance_type: item.reasons for item in pool.rejected}
    assert any(reason.criterion == "kv_precision" for reason in reasons["g4dn.xlarge"])
    assert not levers(pool, "kv_precision")


def test_an_unknown_cache_precision_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="did you mean fp8"):
        plan_fleet("startup-mvp", {"kv_precision": "fp9"})


def test_the_cache_of_a_device_without_bfloat16_is_half_precision() -> None:
    pool = plan_fleet("startup-mvp", {"instance_families": "g4dn"}).pools[0]
    assert {choice.kv_precision for choice in pool.choices} == {"fp16"}


def test_the_splits_of_a_choice_hold_the_one_that_it_takes() -> None:
    pool = plan_fleet("scaling-startup", {"instance_families": "g6e,g5"}).pools[0]
    for choice in pool.choices:
        taken = next(split for split in choice.splits if split.tensor_parallel == choice.tensor_parallel)
        assert taken.replicas == choice.replicas
        assert taken.requests_per_s == max(split.requests_per_s for split in choice.splits)


def test_boldness_is_an_option_and_then_the_plan_is_the_one_that_it_named() -> None:
    cautious, bold = plan_fleet("scaling-startup"), plan_fleet("scaling-startup", {"sizing": "bold"})
    assert cautious.pools[0].sizing == "cautious"
    assert bold.pools[0].sizing == "bold"
    assert bold.pools[0].choices[0].instance_type == cautious.pools[0].boldness.instance_type
    assert bold.pools[0].choices[0].usd_per_month == cautious.pools[0].boldness.usd_per_month
    assert bold.pools[0].boldness.saves_usd_per_month == 0


def test_where_only_boldness_finds_a_type_the_error_says_so(tmp_path: Path) -> None:
    """The mark lies between what a request takes alone on gr6 and the slow end of that prediction's interval."""
    card = load_models().resolve("meta-llama/Llama-2-7b-hf", "test").card
    alone = forecast(setup_on(card, "int8", load_catalog().instance_types["gr6.4xlarge"]), Shape(512, 256), 1)
    mark = alone.tpot_ms * alone.width**0.5
    text = (CONFIGS / "patterns" / "startup-mvp.yaml").read_text().replace("tpot_ms: 100", f"tpot_ms: {mark:.3f}")
    path = tmp_path / "tight.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"By typical predictions \(-c sizing=bold\) these would: gr6"):
        plan_fleet(str(path), {"instance_families": "gr6"})
    assert plan_fleet(str(path), {"instance_families": "gr6", "sizing": "bold"}).pools
