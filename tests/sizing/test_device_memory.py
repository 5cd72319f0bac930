"""Where a device's memory goes, by engine class and version, and the largest context and concurrency it leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.sizing.cache import (
    BLOCK_TOKENS,
    longest_sequence,
    sequence_bytes,
    share_of_rank,
    state_bytes,
    token_bytes,
)
from llm_fleet.sizing.case import ENGINES, Setup
from llm_fleet.sizing.device import devices
from llm_fleet.sizing.forecast import setup_on
from llm_fleet.sizing.layout import Layout, cache_room_bytes, device_memory, rank_weight_bytes
from llm_fleet.sizing.memory import largest_context_tokens, sequences_that_fit
from llm_fleet.sizing.reserve import GIB, engine_limits
from llm_fleet.sizing.traits import ModelTraits, model_traits

ALONE = Layout(1, 1, 1, 1, 1)


def traits(name: str, precision: str = "bf16", kv_bytes: float = 2.0) -> ModelTraits:
    return model_traits(load_models().cards[name], precision, kv_bytes)


LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", ["T4", "L4", "A100-80", "H100", "B200"])
def test_the_parts_add_up_to_the_device(kind: str, name: str):
    device = devices()[name]
    found = device_memory(traits(LLAMA, "int4"), device, ALONE, engine_limits(kind, device, 1.0))
    parts = (found.weights_gib, found.activations_gib, found.graphs_gib, found.non_torch_gib)
    assert sum(parts) + found.utilisation_gib + found.kv_cache_gib == pytest.approx(found.usable_gib)
    assert found.utilisation_gib > 0
    assert min(parts) >= 0


def test_a_newer_vllm_fills_two_percent_more_and_takes_graphs_off_the_cache():
    # L40S: (44.99 - 0.5) x 0.02 = 0.89 more from 0.19 on; graphs of 0.65 counted from 0.21 on; up to 0.16 the sampler
    # sorts: 256 x 128,256 x (40 - 12) bytes = 0.86 more.
    device = devices()["L40S"]
    caches = {
        minor: device_memory(traits(LLAMA), device, ALONE, engine_limits("vllm", device, minor=minor)).kv_cache_gib
        for minor in (16, 18, 20, 21)
    }
    assert caches[18] - caches[16] == pytest.approx(0.856, abs=0.01)
    assert caches[20] - caches[18] == pytest.approx(0.890, abs=0.01)
    assert caches[20] - caches[21] == pytest.approx(0.65, abs=0.001)


def test_a_version_that_nobody_says_follows_from_the_trend():
    assert engine_limits("vllm", devices()["L4"], newer=2.4).minor == 20
    assert engine_limits("vllm 0.6", devices()["L4"], newer=2.4).minor == 0


def test_sglang_keeps_a_share_for_weights_and_cache_together():
    device = devices()["H100"]
    found = device_memory(traits(LLAMA), device, ALONE, engine_limits("sglang", device))
    # (79.65 - 0.5) x 0.86 = 68.07, less 14.96.
    assert found.kv_cache_gib == pytest.approx(0.86 * (device.memory_gib - 0.5) - 14.96, abs=0.01)


def test_tensorrt_llm_takes_a_share_of_what_is_left():
    device = devices()["H100"]
    found = device_memory(traits(LLAMA), device, ALONE, engine_limits("trtllm", device))
    left = found.usable_gib - 0.5 - found.weights_gib - found.activations_gib - found.non_torch_gib - found.graphs_gib
    assert found.kv_cache_gib == pytest.approx(0.9 * left)


def test_early_tensorrt_llm_keeps_buffers_for_a_full_batch_of_whole_prompts():
    device = devices()["A100-80"]
    found = device_memory(traits(LLAMA), device, ALONE, engine_limits("trtllm 2023", device))
    # 65,536 tokens x (3 x 14,336 + 4 x 4,096) x 2 bytes = 7.25 GiB.
    assert found.activations_gib == pytest.approx(65536 * 118784 / GIB)


def test_an_engine_without_a_pool_uses_all_but_two_percent():
    device = devices()["L4"]
    found = device_memory(traits(LLAMA, "q4_k_m"), device, ALONE, engine_limits("llama.cpp", device))
    # (22.49 - 0.5) x 0.98 = 21.55; weights 4.57; a chunk of 2,048 tokens 0.23; context 0.1.
    assert found.kv_cache_gib == pytest.approx(21.55 - 4.57 - 0.23 - 0.1, abs=0.02)
    assert found.graphs_gib == 0


def test_a_neuron_core_holds_its_runtime_and_the_largest_bucket():
    device = devices()["Inferentia2"]
    layout = Layout(8, 1, 1, 1, 2)
    found = device_memory(traits(LLAMA), device, layout, engine_limits("neuron", device, chunk_tokens=4096))
    # A core: 16 GiB less 1; 4,096 tokens x (3 x 14,336 / 8 + 4 x 4,096) x 2 bytes = 0.166.
    assert found.non_torch_gib == 1
    assert found.activations_gib == pytest.approx(4096 * (3 * 14336 / 8 + 4 * 4096) * 2 / GIB)
    assert found.kv_cache_gib == pytest.approx(device.memory_gib / 2 - 1 - found.activations_gib - found.weights_gib)


def test_a_rank_holds_routers_norms_and_latent_projections_whole():
    whole = traits("deepseek-ai/DeepSeek-V3", "fp8")
    # 61 x 7,168 x 2,112 in 8 bit, 58 x 7,168 x 256 and 7,168 x 123 in 16.
    copied = 61 * 7168 * 2112 + 2 * (58 * 7168 * 256 + 7168 * 123)
    assert whole.copied_bytes == pytest.approx(copied, rel=1e-3)
    found = rank_weight_bytes(whole, Layout(8, 1, 1, 1, 1))
    assert found == pytest.approx((whole.weight_bytes - copied) / 8 + copied, rel=1e-3)


def test_cached_heads_and_their_projections_are_copied_beyond_their_number():
    # Qwen3-30B-A3B has 4 cached heads: 8 ranks hold two copies of each.
    whole = traits("Qwen/Qwen3-30B-A3B")
    heads = 48 * 2048 * 2 * 512 * 2
    assert whole.cached_head_bytes == heads
    spread = rank_weight_bytes(whole, Layout(8, 1, 1, 1, 1)) - (whole.weight_bytes - whole.copied_bytes - heads) / 8
    assert spread == pytest.approx(whole.copied_bytes + heads / 4)
    assert [share_of_rank(whole, degree) for degree in (1, 2, 4, 8)] == [1, 0.5, 0.25, 0.25]


def test_a_latent_cache_is_whole_on_every_rank_and_halves_in_8_bit():
    # 61 layers x (512 + 64) x 2 bytes = 68.6 KiB.
    latent = traits("deepseek-ai/DeepSeek-V3", "fp8")
    assert token_bytes(latent, 8, 1) == 61 * 576 * 2
    assert token_bytes(traits("deepseek-ai/DeepSeek-V3", "fp8", 1.0), 8, 1) == 61 * 576


def test_a_hybrid_keeps_a_state_beside_the_cache_of_its_few_attention_layers():
    hybrid = traits("Qwen/Qwen3.5-35B-A3B")
    assert token_bytes(hybrid, 1, 1) == 20 * 1024
    assert state_bytes(hybrid, 2, 1) == pytest.approx(30 * 32 * 128 * 128 * 4 / 2, rel=0.01)
    one = sequence_bytes(hybrid, 1, 1, 16, 2048)
    assert one == pytest.approx(16 * 20 * 1024 + state_bytes(hybrid, 1, 1))


def test_a_sequence_holds_whole_blocks():
    each = token_bytes(traits(LLAMA), 1, 1)
    assert sequence_bytes(traits(LLAMA), 1, 1, 17, 2048) == 32 * each
    assert longest_sequence(traits(LLAMA), 1, 1, 47.9 * each, 2048) == 32


def test_windowed_layers_hold_their_window_and_the_chunk_that_is_read():
    # gpt-oss-20b: half of the layers look back 128 tokens; 127 + 2,048 + a block of 16 = 2,191, in blocks 2,192.
    windowed = traits("openai/gpt-oss-20b", "mxfp4")
    each = token_bytes(windowed, 1, 1)
    assert sequence_bytes(windowed, 1, 1, 10_000, 2048) == pytest.approx((10_000 + 2192) / 2 * each)
    assert sequence_bytes(windowed, 1, 1, 1_000, 2048) == pytest.approx(1008 * each)


@pytest.mark.parametrize("name", [LLAMA, "openai/gpt-oss-20b", "Qwen/Qwen3.5-4B", "deepseek-ai/DeepSeek-V2-Lite"])
@pytest.mark.parametrize("gib", [0.3, 2.0, 11.0])
def test_the_longest_sequence_fits_and_one_block_more_does_not(name: str, gib: float):
    model = traits(name)
    tokens = longest_sequence(model, 1, 1, gib * GIB, 2048)
    assert tokens > 0
    assert sequence_bytes(model, 1, 1, tokens, 2048) <= gib * GIB
    assert sequence_bytes(model, 1, 1, tokens + BLOCK_TOKENS, 2048) > gib * GIB


def test_nothing_fits_where_weights_leave_no_room():
    assert longest_sequence(traits(LLAMA), 1, 1, -1.0, 2048) == 0


def on(name: str, instance: str, precision: str = "bf16", tensor_parallel: float = 1) -> Setup:
    return setup_on(load_models().cards[name], precision, load_catalog().instance_types[instance], tensor_parallel)


def test_an_l4_holds_one_context_of_tens_of_thousands_for_an_8b_in_16_bit():
    # (22.49 - 0.5) x 0.92 = 20.23; weights 14.96, sampling 256 x 128,256 x 12 bytes = 0.37, graphs 0.65, context 0.1:
    # 4.16 GiB at 128 KiB a token = 34,080 tokens.
    setup = on(LLAMA, "g6.xlarge")
    assert largest_context_tokens(setup) == pytest.approx(34_080, rel=0.01)
    assert sequences_that_fit(setup, 8192) == 4
    assert sequences_that_fit(setup, 131072) == 0


def test_attention_ranks_hold_their_own_sequences():
    setup = on(LLAMA, "g6e.xlarge")
    ranks = replace(setup, layout=replace(setup.layout, attention_ranks=2.0))
    # Two ranks keep their own cache, less the buffers of several devices.
    assert sequences_that_fit(ranks, 8192) == pytest.approx(2 * sequences_that_fit(setup, 8192), abs=2)


def test_the_room_for_the_cache_is_that_of_the_plan_where_nobody_says():
    device = devices()["L40S"]
    # (44.99 - 0.5) x 0.92 = 40.93, less 14.96, 0.37, 0.65 and 0.1.
    assert cache_room_bytes(traits(LLAMA), device, ALONE) / GIB == pytest.approx(24.86, abs=0.02)
