"""What a plan promises, on the patterns that ship with the kit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from llm_fleet.catalog import load_catalog
from llm_fleet.documents import CONFIGS
from llm_fleet.errors import InputError
from llm_fleet.patterns import pattern_names
from llm_fleet.planning import FleetPlan, plan_fleet, plan_json_schema
from llm_fleet.planning.plan import PoolPlan, Rejected

PATTERNS = ("cost-optimized-scale", "enterprise-production", "scaling-startup", "startup-mvp")


def rejected(pool: PoolPlan, instance_type: str) -> Rejected:
    """The rejection of a type, which must stand in the pool."""
    return next(item for item in pool.rejected if item.instance_type == instance_type)


def criteria(pool: PoolPlan, instance_type: str) -> set[str]:
    """The criteria that a rejected type fails."""
    return {reason.criterion for reason in rejected(pool, instance_type).reasons}


def test_the_four_patterns_ship_with_the_kit() -> None:
    assert pattern_names() == PATTERNS


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_plan_follows_the_published_schema(pattern: str) -> None:
    jsonschema.validate(json.loads(plan_fleet(pattern).to_json()), plan_json_schema())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_plan_read_back_from_its_json_is_the_same_plan(pattern: str) -> None:
    plan = plan_fleet(pattern)
    assert FleetPlan.model_validate_json(plan.to_json()) == plan


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_type_of_the_catalogue_is_chosen_or_rejected_once_with_a_reason(pattern: str) -> None:
    for pool in plan_fleet(pattern).pools:
        names = [choice.instance_type for choice in pool.choices] + [item.instance_type for item in pool.rejected]
        assert sorted(names) == sorted(load_catalog().instance_types)
        assert all(item.reasons and all(reason.text for reason in item.reasons) for item in pool.rejected)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_memory_of_every_choice_adds_up_within_what_is_usable(pattern: str) -> None:
    for pool in plan_fleet(pattern).pools:
        for choice in pool.choices:
            memory = choice.memory
            assert memory.weights_gib + memory.kv_cache_gib + memory.reserve_gib <= memory.usable_gib
            assert memory.kv_cache_gib > 0


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_choices_of_a_pool_share_vendor_architecture_zones_and_bands(pattern: str) -> None:
    catalog = load_catalog()
    for pool in plan_fleet(pattern).pools:
        rates = [choice.output_tokens_per_s for choice in pool.choices]
        assert len(rates) <= 8
        assert max(rates) <= 4 * min(rates)
        assert max(c.usd_per_month for c in pool.choices) <= 1.5 * pool.choices[0].usd_per_month
        assert min(c.capacity_weight for c in pool.choices) == 1
        assert {catalog.accelerators[c.accelerator].vendor for c in pool.choices} == {pool.vendor}
        for choice in pool.choices:
            assert choice.architecture == pool.architecture
            assert set(pool.zone_ids) <= set(catalog.zones(choice.instance_type, "us-east-1"))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_choices_keep_the_marks_and_are_ranked_by_cost(pattern: str) -> None:
    for pool in plan_fleet(pattern).pools:
        assert all(choice.ttft_ms <= pool.marks.ttft_ms for choice in pool.choices)
        assert all(choice.tpot_ms <= pool.marks.tpot_ms for choice in pool.choices)
        costs = [choice.usd_per_month for choice in pool.choices]
        assert costs == sorted(costs)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_articles_own_type_of_the_pattern_is_judged_like_any_other(pattern: str) -> None:
    for pool in plan_fleet(pattern).pools:
        assert pool.article_type is not None
        name = pool.article_type.instance_type
        chosen = name in {choice.instance_type for choice in pool.choices}
        assert (pool.article_type.verdict == "chosen") == chosen
        assert chosen or rejected(pool, name).reasons


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_cost_of_the_plan_is_the_sum_of_its_pools(pattern: str) -> None:
    plan = plan_fleet(pattern)
    for load in ("low", "expected", "peak"):
        pools = sum(getattr(pool.cost, load).usd_per_month for pool in plan.pools)
        assert getattr(plan.cost, load).usd_per_month == pytest.approx(pools, abs=0.02)
    assert plan.cost.low.usd_per_month <= plan.cost.expected.usd_per_month <= plan.cost.peak.usd_per_month
    assert plan.cost_scope == "instances only"


def test_the_same_input_gives_the_same_bytes_in_another_process() -> None:
    here = plan_fleet("enterprise-production").to_json()
    script = "from llm_fleet.cli import main; main(['plan', 'enterprise-production', '--json'])"
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert there.stdout == here


def test_planning_imports_neither_aws_nor_templates_nor_plots() -> None:
    script = (
        "import sys; from llm_fleet.cli import main; main(['plan', 'startup-mvp', '--json']);"
        "heavy = {'boto3', 'botocore', 'aws_cdk', 'jsii', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_p4d_has_forty_gib_cards_and_the_plan_says_what_others_would_save() -> None:
    pool = plan_fleet("enterprise-production").pools[0]
    article = pool.article_type
    assert article is not None
    assert article.instance_type == "p4d.24xlarge"
    assert article.usable_gib_per_device == 40.0
    families = {other.instance_type.split(".")[0] for other in article.alternatives}
    assert {"p4de", "p5", "g7e"} <= families
    for choice in pool.choices:
        if choice.instance_type == "p4d.24xlarge":
            assert choice.memory.usable_gib == 40.0


def test_a_larger_model_goes_to_types_that_hold_it_and_the_others_say_why_not() -> None:
    pool = plan_fleet("scaling-startup", {"model": "Qwen/Qwen3-32B"}).pools[0]
    assert pool.model == "Qwen/Qwen3-32B"
    for choice in pool.choices:
        total_gib = choice.memory.usable_gib * choice.tensor_parallel
        assert total_gib > 61, "32.8 billion parameters in 16 bit are 61 GiB"
    reason = next(r for r in rejected(pool, "g5.xlarge").reasons if r.criterion == "memory")
    assert isinstance(reason.needed, float)
    assert isinstance(reason.available, float)
    assert reason.needed > reason.available
    assert reason.margin == pytest.approx(reason.available - reason.needed, abs=1e-3)


def test_a_retired_type_a_type_without_price_and_one_without_engine_are_rejected_by_that_criterion() -> None:
    pool = plan_fleet("startup-mvp").pools[0]
    assert "retired" in criteria(pool, "p3.2xlarge")
    assert "retired" in criteria(pool, "dl1.24xlarge")
    assert "engine" in criteria(pool, "inf1.xlarge")
    assert "engine" in criteria(pool, "dl2q.24xlarge")
    assert "price" in criteria(pool, "p6e-gb200.36xlarge")


def test_int8_is_refused_on_blackwell_and_bf16_on_turing() -> None:
    assert "precision" in criteria(plan_fleet("startup-mvp").pools[0], "g7e.2xlarge")
    bf16 = plan_fleet("startup-mvp", {"precision": "bf16"}).pools[0]
    assert "precision" in criteria(bf16, "g4dn.xlarge")


def test_the_neuron_pattern_keeps_to_neuron_and_warns_of_a_cheaper_gpu() -> None:
    plan = plan_fleet("cost-optimized-scale")
    assert {pool.vendor for pool in plan.pools} == {"neuron"}
    assert all("instance_families" in criteria(pool, "g6e.xlarge") for pool in plan.pools)
    assert any("keeps out" in warning and "instances only" in warning for warning in plan.warnings)
    assert any("maintenance" in warning and "trn2" in warning for warning in plan.warnings)


def test_tensor_parallel_on_inferentia_counts_neuron_cores_in_degrees_that_the_engine_has() -> None:
    for pool in plan_fleet("cost-optimized-scale").pools:
        for choice in pool.choices:
            assert choice.tensor_parallel in (1, 2, 4, 8, 24)
            assert choice.tensor_parallel * choice.replicas <= 2 * choice.accelerator_count


def test_the_first_pool_of_startup_mvp_has_one_on_demand_and_seventy_percent_spot_above() -> None:
    pool = plan_fleet("startup-mvp").pools[0]
    assert pool.purchase.on_demand_base_instances == 1
    assert pool.purchase.spot_percent == 70
    assert pool.purchase.on_demand_percent_above_base == 30
    assert (pool.scaling.min_instances, pool.scaling.max_instances) == (1, 10)
    assert pool.scaling.max_units == 10 * pool.scaling.units_per_instance


@pytest.mark.parametrize(
    ("pattern", "role", "percent"),
    [
        ("enterprise-production", "high_performance", 67),
        ("enterprise-production", "batch_processing", 10),
    ],
)
def test_without_a_written_mix_the_usage_decides_it_by_the_articles_rule(pattern: str, role: str, percent: int) -> None:
    pool = next(pool for pool in plan_fleet(pattern).pools if pool.role == role)
    assert pool.purchase.on_demand_percent_above_base == percent
    assert "calculate_optimal_instance_mix" in pool.purchase.source


@pytest.mark.parametrize(("kind", "spot"), [("on-demand", 0), ("spot", 100), ("mixed", 70)])
def test_the_purchase_override_sets_the_mix(kind: str, spot: int) -> None:
    assert plan_fleet("startup-mvp", {"purchase": kind}).pools[0].purchase.spot_percent == spot


def test_max_instances_counts_instances_whatever_the_weights() -> None:
    scaling = plan_fleet("scaling-startup", {"max_instances": "4"}).pools[0].scaling
    assert scaling.max_instances == 4
    assert scaling.max_units == 4 * scaling.units_per_instance


def test_instance_families_limit_the_choices_and_the_rest_say_so() -> None:
    pool = plan_fleet("startup-mvp", {"instance_families": "g5,g6e"}).pools[0]
    assert {choice.instance_type.split(".")[0] for choice in pool.choices} <= {"g5", "g6e"}
    assert "instance_families" in criteria(pool, "g6.xlarge")


def test_an_override_that_empties_an_optional_pool_drops_it_reroutes_its_role_and_warns(tmp_path: Path) -> None:
    plan = plan_fleet("scaling-startup", {"instance_families": "g6e", "region": "us-east-1", "max_instances": "10"})
    assert {pool.role for pool in plan.pools} == {"cost_efficient", "batch_processing"}
    text = (CONFIGS / "patterns" / "scaling-startup.yaml").read_text()
    start = text.index("  batch_processing:\n    required")
    path = tmp_path / "fleet.yaml"
    path.write_text(text[:start] + text[start:].replace("ttft_ms: 30000", "ttft_ms: 1"))
    dropped = plan_fleet(str(path))
    assert [pool.role for pool in dropped.pools] == ["cost_efficient"]
    assert dropped.routes["batch_processing"] == "cost_efficient"
    assert any("batch_processing: dropped" in warning and "ttft" in warning for warning in dropped.warnings)


def test_an_override_that_empties_a_required_pool_is_an_error_with_the_smallest_set_of_criteria() -> None:
    with pytest.raises(InputError) as caught:
        plan_fleet("startup-mvp", {"model": "meta-llama/Llama-3.1-405B", "instance_families": "g5,g6"})
    assert "no type can serve within instance_families g5, g6: every one fails memory" in str(caught.value)


def test_a_users_own_file_works_as_a_pattern_and_its_name_names_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(
        (CONFIGS / "patterns" / "startup-mvp.yaml").read_text().replace("name: startup-mvp", "name: Ours-1")
    )
    assert plan_fleet(str(path)).pattern == "Ours-1"


def test_the_guide_stands_beside_the_plan_with_the_difference_in_money() -> None:
    plan = plan_fleet("startup-mvp")
    assert plan.guide.instance_type == "g5.xlarge"
    assert plan.guide.rule.startswith("select_instance_for_model")
    assert plan.guide.beside.rule.startswith("choose_aws_gpu_instance")
    assert plan.guide.monthly_usd is not None
    best = plan.pools[0].choices[0].usd_per_month
    assert plan.guide.difference == pytest.approx(plan.guide.monthly_usd - best, abs=0.02)


def test_old_prices_are_said_in_the_plan() -> None:
    assert any("older than 90 days" in warning for warning in plan_fleet("startup-mvp").warnings)


def test_another_region_is_priced_and_zoned_there() -> None:
    plan = plan_fleet("startup-mvp", {"region": "eu-west-1"})
    assert plan.region == "eu-west-1"
    assert all(zone.startswith("euw1-") for zone in plan.pools[0].zone_ids)
    us = {c.instance_type: c.on_demand_usd_per_hour for c in plan_fleet("startup-mvp").pools[0].choices}
    for choice in plan.pools[0].choices:
        if choice.instance_type in us:
            assert choice.on_demand_usd_per_hour > us[choice.instance_type]


def test_int8_of_the_articles_model_is_a_published_checkpoint() -> None:
    weights = plan_fleet("startup-mvp").pools[0].weights
    assert weights.repository == "RedHatAI/Llama-2-7b-chat-quantized.w8a8"


def test_another_model_without_a_checkpoint_in_the_patterns_precision_keeps_its_own_and_says_so() -> None:
    plan = plan_fleet("startup-mvp", {"model": "HuggingFaceTB/SmolLM3-3B"})
    assert plan.pools[0].precision == "bf16"
    assert any("no int8 checkpoint of HuggingFaceTB/SmolLM3-3B is known" in warning for warning in plan.warnings)


def test_a_precision_that_was_asked_for_is_planned_without_a_checkpoint_but_its_weights_are_not_invented() -> None:
    plan = plan_fleet("startup-mvp", {"model": "HuggingFaceTB/SmolLM3-3B", "precision": "int4"})
    assert plan.pools[0].precision == "int4"
    assert plan.pools[0].weights.repository is None
    assert any("would refuse to start" in warning for warning in plan.warnings)


def test_sixteen_bit_stays_sixteen_bit_in_the_models_own_kind() -> None:
    assert plan_fleet("scaling-startup", {"model": "Qwen/Qwen2.5-7B-Instruct"}).pools[0].precision == "bf16"


def test_a_quantised_repository_implies_its_precision() -> None:
    pool = plan_fleet("scaling-startup", {"model": "Qwen/Qwen3-32B-FP8"}).pools[0]
    assert (pool.precision, pool.weights.repository) == ("fp8", "Qwen/Qwen3-32B-FP8")


def test_a_quantised_repository_contradicts_another_precision() -> None:
    with pytest.raises(InputError, match="contradicts the model"):
        plan_fleet("scaling-startup", {"model": "Qwen/Qwen3-32B-FP8", "precision": "int4"})


def test_a_config_json_on_disk_is_planned_and_its_weights_are_asked_for(tmp_path: Path) -> None:
    config = {
        **{
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 4096,
            "torch_dtype": "bfloat16",
        },
        **{"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336},
        **{"vocab_size": 128256, "max_position_embeddings": 8192},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    plan = plan_fleet("scaling-startup", {"model": str(tmp_path / "config.json")})
    assert plan.pools[0].weights.repository is None
    assert plan.pools[0].choices[0].memory.weights_gib * plan.pools[0].choices[0].tensor_parallel > 14
    assert any("weights.repository names one" in warning for warning in plan.warnings)
