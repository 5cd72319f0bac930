"""How an instance is split, and the largest load within the marks: what must always hold, and worked cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing.forecast import Shape, forecast
from llm_fleet.sizing.memory import largest_context_tokens, sequence_bytes, sequences_that_fit
from llm_fleet.sizing.serving import (
    Asked,
    Demand,
    Hardware,
    ServingPlan,
    best_plan,
    serving_plans,
    slots_within_marks,
    tensor_parallel_degrees,
)

CATALOG = load_catalog()
DEMAND = Demand(input_tokens=512, output_tokens=256, max_model_len_tokens=4096, ttft_mark_ms=5000, tpot_mark_ms=200)
TYPES = ("g4dn.xlarge", "g5.12xlarge", "g6e.xlarge", "g6e.12xlarge", "p4d.24xlarge", "inf2.48xlarge")


def card(name: str) -> ModelCard:
    """A card of the library."""
    return load_models().resolve(name, "test").card


def hardware(instance_type: str) -> Hardware:
    """A type with what sizing needs of the catalogue."""
    kind = CATALOG.instance_types[instance_type]
    engine = CATALOG.engine_for(kind)
    assert engine is not None
    return Hardware(kind, CATALOG.accelerators[kind.accelerator], engine)


def plans(model: str, name: str, demand: Demand = DEMAND, cautious: bool = True) -> dict[int, ServingPlan]:
    """The plan of every degree, in 16 bit."""
    found = serving_plans([Asked(card(model), "fp16", hardware(name), replace(demand, cautious=cautious))])[0]
    return {plan.tensor_parallel: plan for plan in found}


def best(model: str, name: str, demand: Demand = DEMAND, cautious: bool = True) -> ServingPlan:
    """The best of them."""
    return best_plan(tuple(plans(model, name, demand, cautious).values()))


def test_tensor_parallel_divides_the_heads() -> None:
    falcon = card("tiiuae/falcon-7b")
    assert falcon.attention_heads == 71
    assert tensor_parallel_degrees(falcon, hardware("g5.12xlarge")) == (1,)


def test_tensor_parallel_on_neuron_counts_cores_and_skips_degrees_that_do_not_exist() -> None:
    llama = card("meta-llama/Llama-2-13b-hf")
    assert tensor_parallel_degrees(llama, hardware("inf2.48xlarge")) == (1, 2, 4, 8)


def test_thirteen_billion_in_sixteen_bit_needs_a_split_on_a10g() -> None:
    """26 GB of weights do not fit one A10G of 22.5 GiB."""
    by_degree = plans("meta-llama/Llama-2-13b-hf", "g5.12xlarge")
    assert not by_degree[1].fits
    assert by_degree[4].fits


def test_what_a_split_leaves_over_are_replicas_and_their_rates_add_up() -> None:
    by_degree = plans("meta-llama/Llama-3.1-8B", "g6e.12xlarge")
    assert {degree: plan.replicas for degree, plan in by_degree.items()} == {1: 4, 2: 2, 4: 1}
    four = by_degree[1]
    alone = replace(four.setup, layout=replace(four.setup.layout, replicas=1.0))
    one = forecast(alone, Shape(512, 256), four.concurrency)
    assert four.requests_per_s == pytest.approx(4 * one.requests_per_s, rel=0.12)


def test_over_pcie_replicas_serve_more_than_one_engine_over_all_devices() -> None:
    """Two all-reduces a layer cross the bus: four small engines beat one large one where the model fits one device."""
    by_degree = plans("meta-llama/Llama-3.1-8B", "g6e.12xlarge")
    assert by_degree[1].requests_per_s > by_degree[2].requests_per_s > by_degree[4].requests_per_s
    assert best("meta-llama/Llama-3.1-8B", "g6e.12xlarge").tensor_parallel == 1


def test_a_tight_mark_makes_one_engine_over_more_devices_win() -> None:
    """A single device cannot reach the step time; two share the weights."""
    alone = {
        degree: forecast(plan.setup, Shape(512, 256), 1).high_tpot_ms
        for degree, plan in plans("meta-llama/Llama-3.1-8B", "p4d.24xlarge").items()
    }
    demand = replace(DEMAND, tpot_mark_ms=(alone[1] + alone[2]) / 2)
    assert alone[2] < demand.tpot_mark_ms < alone[1]
    assert best("meta-llama/Llama-3.1-8B", "p4d.24xlarge", demand).tensor_parallel > 1


def test_caution_keeps_the_marks_at_the_slow_end_and_buys_by_the_low_end() -> None:
    cautious, bold = (
        best("meta-llama/Llama-3.1-8B", "g5.xlarge"),
        best("meta-llama/Llama-3.1-8B", "g5.xlarge", DEMAND, False),
    )
    assert cautious.width == bold.width > 1
    assert cautious.sized_requests_per_s == cautious.requests_per_s / cautious.width
    assert bold.sized_requests_per_s == bold.requests_per_s > cautious.sized_requests_per_s
    assert cautious.tpot_ms * cautious.width <= DEMAND.tpot_mark_ms


def test_types_with_equal_devices_get_equal_plans() -> None:
    small, large = best("meta-llama/Llama-3.1-8B", "g5.xlarge"), best("meta-llama/Llama-3.1-8B", "g5.16xlarge")
    assert small == large


def test_many_questions_at_once_are_answered_as_one_by_one() -> None:
    asked = [Asked(card("meta-llama/Llama-3.1-8B"), "fp16", hardware(name), DEMAND) for name in TYPES]
    assert serving_plans(asked) == [serving_plans([one])[0] for one in asked]


def test_a_compiled_batch_is_the_one_that_serves_most_within_the_marks() -> None:
    eased = best("meta-llama/Llama-3.1-8B", "inf2.48xlarge")
    strict = best("meta-llama/Llama-3.1-8B", "inf2.48xlarge", replace(DEMAND, tpot_mark_ms=eased.slow_tpot_ms * 0.8))
    assert eased.max_num_seqs in (1, 2, 4, 8, 16, 32, 64)
    assert strict.requests_per_s < eased.requests_per_s
    assert strict.slow_tpot_ms <= eased.slow_tpot_ms * 0.8


def test_an_eight_bit_cache_holds_twice_the_sequences() -> None:
    whole = plans("meta-llama/Llama-3.1-8B", "g6e.xlarge")[1].setup
    half = plans("meta-llama/Llama-3.1-8B", "g6e.xlarge", replace(DEMAND, kv_precision="fp8"))[1].setup
    assert sequence_bytes(half, 1000) == sequence_bytes(whole, 1000) / 2
    assert sequences_that_fit(half, 4096) in range(
        2 * sequences_that_fit(whole, 4096), 2 * sequences_that_fit(whole, 4096) + 2
    )


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b", "Qwen/Qwen3.5-4B"])
def test_the_largest_context_is_the_longest_sequence_that_fits(model: str) -> None:
    setup = plans(model, "g7e.2xlarge")[1].setup
    longest = largest_context_tokens(setup)
    assert sequences_that_fit(setup, longest) >= 1
    assert sequences_that_fit(setup, longest + 32) == 0


@given(inputs=st.integers(16, 3000), out=st.integers(16, 1000), tpot=st.floats(10, 500), name=st.sampled_from(TYPES))
@settings(max_examples=60, deadline=None)
def test_a_plan_never_breaks_the_memory_or_the_marks(inputs: int, out: int, tpot: float, name: str) -> None:
    for plan in plans("meta-llama/Llama-2-13b-hf", name, Demand(inputs, out, 4096, 5000, tpot)).values():
        if not plan.fits:
            assert plan.requests_per_s == 0
        if plan.concurrency:
            assert plan.slow_tpot_ms <= tpot + 1e-6
            assert plan.ttft_ms * plan.ttft_width <= 5000 + 1e-6
            assert plan.concurrency <= plan.max_num_seqs
            assert plan.memory.kv_cache_gib > 0


@given(loose=st.floats(1.0, 4.0), name=st.sampled_from(["g5.xlarge", "g6e.xlarge", "p5.48xlarge"]))
@settings(max_examples=40, deadline=None)
def test_a_looser_mark_never_lowers_the_rate_that_an_instance_serves(loose: float, name: str) -> None:
    strict = best("meta-llama/Llama-3.1-8B", name, replace(DEMAND, tpot_mark_ms=50))
    eased = best("meta-llama/Llama-3.1-8B", name, replace(DEMAND, tpot_mark_ms=50 * loose))
    assert eased.requests_per_s >= 0.99 * strict.requests_per_s


@given(tokens=st.integers(64, 8000))
@settings(max_examples=40, deadline=None)
def test_a_longer_context_never_needs_less_memory(tokens: int) -> None:
    short = plans("meta-llama/Llama-3.1-8B", "g6e.xlarge", replace(DEMAND, max_model_len_tokens=1024))[1]
    longer = plans("meta-llama/Llama-3.1-8B", "g6e.xlarge", replace(DEMAND, max_model_len_tokens=1024 + tokens))[1]
    assert longer.needed_gib >= short.needed_gib


def test_an_engine_runs_no_more_at_once_than_keep_the_marks() -> None:
    """An A100 of 80 GiB holds hundreds of sequences of an 8B, but not within 15 ms a token."""
    demand = replace(DEMAND, tpot_mark_ms=15)
    plan = best("meta-llama/Llama-3.1-8B", "p4de.24xlarge", demand)
    slots = slots_within_marks(plan, demand)
    assert plan.concurrency <= slots < plan.max_num_seqs
    assert forecast(plan.setup, Shape(512, 256), slots * plan.replicas).tpot_ms <= 15 * 1.1
