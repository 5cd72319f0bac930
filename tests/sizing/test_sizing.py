"""Memory and speed: figures that others published or that follow by counting, and properties that must always hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing import memory
from llm_fleet.sizing.serving import Demand, Hardware, best_plan, serving_plans, tensor_parallel_degrees
from llm_fleet.sizing.step import experts_touched_share

CATALOG = load_catalog()
DEMAND = Demand(input_tokens=512, output_tokens=256, max_model_len_tokens=4096, ttft_mark_ms=5000, tpot_mark_ms=200)


def card(name: str) -> ModelCard:
    """A card of the library."""
    return load_models().resolve(name, "test").card


def hardware(instance_type: str) -> Hardware:
    """A type with what sizing needs of the catalogue, computing in 16 bit."""
    kind = CATALOG.instance_types[instance_type]
    accelerator = CATALOG.accelerators[kind.accelerator]
    engine = CATALOG.engine_for(kind)
    assert engine is not None
    compute = accelerator.dense_tflops.get("bf16") or accelerator.dense_tflops["fp16"]
    return Hardware(kind, accelerator, engine, CATALOG.efficiency[accelerator.name], compute)


@pytest.mark.parametrize(
    ("model", "precision", "gib"),
    [
        ("meta-llama/Llama-2-7b-hf", "fp16", 12.55),
        ("meta-llama/Llama-2-70b-hf", "fp16", 128.5),
        ("meta-llama/Llama-3.1-8B", "int4", 5.3),
        ("openai/gpt-oss-120b", "mxfp4", 60.8),
    ],
)
def test_weights_weigh_what_their_checkpoints_do(model: str, precision: str, gib: float) -> None:
    """fp16 is two bytes a parameter; AWQ of an 8B is 5.7 GB and gpt-oss-120b about 65 GB on the Hub."""
    assert memory.weight_bytes(card(model), precision) / memory.GIB == pytest.approx(gib, rel=0.03)


@pytest.mark.parametrize(
    ("model", "kib"),
    [
        ("meta-llama/Llama-2-7b-hf", 512),
        ("meta-llama/Llama-3.1-8B", 128),
        ("meta-llama/Llama-3.1-70B", 320),
        ("Qwen/Qwen3-30B-A3B", 96),
        ("deepseek-ai/DeepSeek-V3", 68.6),
    ],
)
def test_the_cache_of_a_token_follows_the_kind_of_attention(model: str, kib: float) -> None:
    assert memory.kv_bytes_per_token(card(model), 1) / 1024 == pytest.approx(kib, rel=0.01)


def test_kv_heads_are_split_over_devices_and_replicated_beyond_their_number() -> None:
    llama = card("meta-llama/Llama-3.1-8B")
    assert memory.kv_bytes_per_token(llama, 8) == memory.kv_bytes_per_token(llama, 1) / 8
    assert memory.kv_bytes_per_token(llama, 16) == memory.kv_bytes_per_token(llama, 8)


def test_the_compressed_cache_of_latent_attention_is_not_split() -> None:
    deepseek = card("deepseek-ai/DeepSeek-V3")
    assert memory.kv_bytes_per_token(deepseek, 8) == memory.kv_bytes_per_token(deepseek, 1)


def test_windowed_layers_keep_no_more_than_their_window() -> None:
    windowed = replace(card("meta-llama/Llama-3.1-8B"), sliding_window_tokens=1024, sliding_window_layers_fraction=0.5)
    assert memory.cached_tokens(windowed, 4096) == 0.5 * 4096 + 0.5 * 1024


def test_the_experts_that_a_step_touches_grow_with_its_tokens() -> None:
    """128 experts, 8 for each token: 8 are read for one token, 52 for 8, 112 for 32."""
    qwen = card("Qwen/Qwen3-30B-A3B")
    touched = [round(128 * experts_touched_share(qwen, tokens)) for tokens in (1, 8, 32)]
    assert touched == [8, 52, 112]


def test_tensor_parallel_divides_the_heads() -> None:
    falcon = card("tiiuae/falcon-7b")
    assert falcon.attention_heads == 71
    assert tensor_parallel_degrees(falcon, hardware("g5.12xlarge")) == (1,)


def test_tensor_parallel_on_neuron_counts_cores_and_skips_degrees_that_do_not_exist() -> None:
    llama = card("meta-llama/Llama-2-13b-hf")
    assert tensor_parallel_degrees(llama, hardware("inf2.48xlarge")) == (1, 2, 4, 8)


def test_thirteen_billion_in_sixteen_bit_needs_a_split_on_a10g() -> None:
    """26 GB of weights do not fit one A10G of 22.5 GiB."""
    plans = {
        p.tensor_parallel: p
        for p in serving_plans(card("meta-llama/Llama-2-13b-hf"), "fp16", hardware("g5.12xlarge"), DEMAND)
    }
    assert not plans[1].fits
    assert plans[4].fits


@given(
    requests_in=st.integers(16, 3000),
    out=st.integers(16, 1000),
    tpot=st.floats(10, 500),
    name=st.sampled_from(["g4dn.xlarge", "g5.12xlarge", "g6e.xlarge", "g6e.12xlarge", "p4d.24xlarge", "inf2.48xlarge"]),
)
@settings(max_examples=60, deadline=None)
def test_a_plan_never_breaks_the_memory_or_the_marks(requests_in: int, out: int, tpot: float, name: str) -> None:
    demand = Demand(requests_in, out, 4096, 5000, tpot)
    for plan in serving_plans(card("meta-llama/Llama-2-13b-hf"), "bf16", hardware(name), demand):
        if not plan.fits:
            assert plan.requests_per_s == 0
        if plan.concurrency:
            assert plan.tpot_ms <= tpot + 1e-6
            assert plan.ttft_ms <= 5000 + 1e-6
            assert plan.concurrency <= plan.max_num_seqs
            assert plan.memory.kv_cache_gib > 0


@given(loose=st.floats(1.0, 4.0), name=st.sampled_from(["g5.xlarge", "g6e.xlarge", "p5.48xlarge"]))
@settings(max_examples=40, deadline=None)
def test_a_looser_mark_never_lowers_the_load_that_an_instance_holds(loose: float, name: str) -> None:
    model, machine = card("meta-llama/Llama-3.1-8B"), hardware(name)
    strict = best_plan(tuple(serving_plans(model, "fp16", machine, replace(DEMAND, tpot_mark_ms=50))))
    eased = best_plan(tuple(serving_plans(model, "fp16", machine, replace(DEMAND, tpot_mark_ms=50 * loose))))
    assert eased.concurrency >= strict.concurrency or eased.tensor_parallel != strict.tensor_parallel


@given(tokens=st.integers(64, 8000))
@settings(max_examples=40, deadline=None)
def test_a_longer_context_never_needs_less_memory(tokens: int) -> None:
    model, machine = card("meta-llama/Llama-3.1-8B"), hardware("g6e.xlarge")
    short = next(serving_plans(model, "fp16", machine, replace(DEMAND, max_model_len_tokens=1024)))
    longer = next(serving_plans(model, "fp16", machine, replace(DEMAND, max_model_len_tokens=1024 + tokens)))
    assert longer.needed_gib >= short.needed_gib
