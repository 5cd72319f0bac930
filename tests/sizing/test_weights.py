"""Weights by group against published totals and checkpoint sizes, counted by hand."""

from __future__ import annotations

import pytest

from llm_fleet.models import load_models
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing.reserve import GIB
from llm_fleet.sizing.traits import generic_card, model_traits
from llm_fleet.sizing.weights import (
    WEIGHT_FORMATS,
    ParameterGroup,
    group_bytes,
    shape_groups,
    state_layers,
    weight_groups,
)

MISSED = {
    "facebook/opt-125m": "2,050 learned positions of 768 are 1.3 % of it",
    "google/gemma-4-31B-it": "10 full layers have wider heads than the card can say",
}
"""Dense text models whose shape misses the total by more than 1 %."""


def card(name: str) -> ModelCard:
    return load_models().cards[name]


def weight_bytes(name: str, precision: str) -> float:
    return sum(group_bytes(card(name), group, precision) for group in weight_groups(card(name)))


def test_the_shapes_of_dense_models_add_up_to_their_published_totals_within_one_percent():
    checked = 0
    for known in load_models().cards.values():
        if known.mixture_of_experts or known.attention_kind == "hybrid":
            continue
        counted = sum(group.count for group in shape_groups(known)) / 1e9
        off = abs(counted / known.params_total_billion - 1)
        assert (off > 0.01) == (known.name in MISSED), (known.name, off)
        checked += 1
    assert checked > 70


def test_the_shapes_of_mixtures_with_attention_in_every_layer_add_up_within_one_percent():
    for known in load_models().cards.values():
        if known.mixture_of_experts and known.attention_kind != "hybrid":
            counted = sum(group.count for group in shape_groups(known)) / 1e9
            assert counted == pytest.approx(known.params_total_billion, rel=0.01), known.name


def test_the_groups_of_every_model_add_up_to_its_total():
    for known in load_models().cards.values():
        groups = weight_groups(known)
        assert all(group.count >= 0 for group in groups), known.name
        assert sum(group.count for group in groups) == pytest.approx(known.params_total_billion * 1e9), known.name
        assert len({group.name for group in groups}) == len(groups), known.name


def test_the_groups_of_an_8b_are_its_matrices():
    # 32 layers of 4,096, 32 heads and 8 cached ones of 128, MLP 14,336, vocabulary 128,256, untied.
    assert {group.name: group.count for group in shape_groups(card("meta-llama/Llama-3.1-8B"))} == {
        "embedding": 128256 * 4096,
        "head": 128256 * 4096,
        "attention_query": 32 * 4096 * 4096,
        "attention_key_value": 32 * 4096 * 2 * 1024,
        "attention_output": 32 * 4096 * 4096,
        "mlp_up": 32 * 2 * 4096 * 14336,
        "mlp_down": 32 * 14336 * 4096,
        "norms": 4096 * 65,
    }


def test_heads_may_be_wider_than_the_hidden_size_over_their_number():
    # Qwen3-0.6B: hidden 1,024, 16 heads of 128: queries widen to 2,048.
    groups = {group.name: group for group in shape_groups(card("Qwen/Qwen3-0.6B"))}
    assert groups["attention_query"].count == 28 * 1024 * 2048
    assert groups["attention_output"].inputs == 2048
    assert "embedding" not in groups  # tied: the head is the table


def test_an_mlp_without_a_gate_has_two_matrices():
    groups = {group.name: group.count for group in shape_groups(card("facebook/opt-6.7b"))}
    assert groups["mlp_up"] == groups["mlp_down"] == 32 * 4096 * 16384


def test_latent_attention_is_counted_by_its_projections():
    # DeepSeek-V3: queries through 1,536, keys and values through 512 + 64, 128 heads of 128 + 64, values of 128.
    groups = {group.name: group for group in shape_groups(card("deepseek-ai/DeepSeek-V3"))}
    assert groups["attention_down"].count == 61 * 7168 * (1536 + 512 + 64)
    assert groups["attention_query"].count == 61 * 1536 * 128 * 192
    assert groups["attention_key_value"].count == 61 * 512 * 128 * 256
    assert groups["experts_up"].count == 58 * 256 * 2 * 7168 * 2048  # 3 of 61 layers are dense
    assert groups["shared_down"].count == 58 * 2048 * 7168
    assert groups["router"].count == 58 * 7168 * 256


def test_every_second_layer_of_maverick_has_experts():
    found = model_traits(card("meta-llama/Llama-4-Maverick-17B-128E-Instruct"), "bf16")
    assert found.moe_layers == 24
    assert found.expert_bytes == 2 * 24 * 128 * 3 * 5120 * 8192


def test_layers_of_nemotron_are_one_thing_each():
    assert state_layers(card("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")) == 52 - 6 - 23
    assert state_layers(card("Qwen/Qwen3.5-35B-A3B")) == 30


@pytest.mark.parametrize(
    ("precision", "bits"),
    [
        ("fp8", 8 + 32 / 4096),
        ("awq-int4", 4 + 20 / 128),
        ("gptq-int8", 8 + 24 / 128),
        ("bnb-nf4", 4.5),
        ("mxfp4", 4.25),
        ("nvfp4", 4.5),
        ("q4_k_m", 4.89),
    ],
)
def test_a_weight_carries_its_share_of_the_scales(precision: str, bits: float):
    assert WEIGHT_FORMATS[precision].bits_per_weight(4096) == pytest.approx(bits)


def test_a_narrow_channel_pays_more_for_its_scale():
    narrow = ParameterGroup("mlp_down", 1e9, 768)
    assert group_bytes(card("Qwen/Qwen3-30B-A3B"), narrow, "fp8") == pytest.approx(1e9 * (8 + 32 / 768) / 8)


@pytest.mark.parametrize(
    ("name", "precision", "gigabytes"),
    [
        # 8.030261 B x 2.
        ("meta-llama/Llama-3.1-8B", "bf16", 16.06),
        # 6.9795 B x (4 + 20/128) bits = 3.626, tables 2 x 0.5253 B and norms in 16 bit = 2.102.
        ("meta-llama/Llama-3.1-8B", "awq-int4", 5.728),
        # 68.452 B x 4.156 bits = 35.563, tables 2 x 1.0507 B and norms in 16 bit = 4.205.
        ("meta-llama/Llama-3.1-70B", "awq-int4", 39.77),
        # Whole file: 8.030 B x 4.89 bits.
        ("meta-llama/Llama-3.1-8B", "q4_k_m", 4.909),
        # Experts 36 x 128 x 3 x 2,880^2 = 114.66 B x 4.25 bits = 60.91, the other 2.166 B in 16 bit = 4.33.
        ("openai/gpt-oss-120b", "mxfp4", 65.25),
        # Experts 19.11 B x 4.25 bits = 10.15, the other 1.804 B in 16 bit = 3.61.
        ("openai/gpt-oss-20b", "mxfp4", 13.76),
        # Experts 60 x 384 x 3 x 7,168 x 2,048 = 1,014.69 B x (4 + 16/32) bits = 570.8, the other 11.72 B x 2 = 23.4.
        ("moonshotai/Kimi-K2.6", "int4", 594.2),
        # 668.97 B in blocks of 8 + 32/16384 bits = 669.1, tables, router and norms 2.06 B in 16 bit = 4.0 of 671.03.
        ("deepseek-ai/DeepSeek-V3", "fp8", 673.15),
        # Attention, router and tables stay in 16 bit (11.41 + 1.96 B = 26.7); MLPs and experts 657.7 B x 4.5 bits.
        ("deepseek-ai/DeepSeek-R1", "nvfp4", 396.7),
    ],
)
def test_checkpoints_have_the_size_that_their_groups_give(name: str, precision: str, gigabytes: float):
    assert weight_bytes(name, precision) / 1e9 == pytest.approx(gigabytes, rel=0.002)


def test_fp4_experts_may_stand_beside_fp8():
    # DeepSeek-V4-Flash: experts 43 x 256 x 3 x 4,096 x 2,048 = 277.03 B x 4.25 bits; tables 2 x 0.5295 B in 16 bit.
    found = model_traits(card("deepseek-ai/DeepSeek-V4-Flash"), "mxfp4")
    assert found.expert_bytes == pytest.approx(277.03e9 * 4.25 / 8, rel=1e-3)
    assert found.dense_format == "8-bit float"
    assert found.dense_bytes < 1.1 * (283.81e9 - 277.03e9)


def test_the_traits_of_a_model_are_those_of_its_groups():
    found = model_traits(card("openai/gpt-oss-20b"), "mxfp4")
    # 24 layers: queries and output 2 x 2,880 x 4,096, keys and values 2,880 x 1,024; routers 2,880 x 32; biases, sinks.
    attention = 24 * 2880 * (2 * 4096 + 1024)
    assert found.dense_params == pytest.approx(attention + 24 * 2880 * 32, rel=0.02)
    assert found.expert_params == 4 * 24 * 3 * 2880 * 2880
    assert found.head_params == 201088 * 2880
    assert found.weight_bytes / GIB == pytest.approx(13.76e9 / GIB, rel=1e-3)


def test_a_model_without_a_card_is_counted_by_its_size():
    shape = generic_card("some/model-13B", 13.0, card("meta-llama/Llama-2-7b-hf"))
    found = model_traits(shape, "awq-int4")
    tables = 2 * 32000 * shape.hidden_size
    assert found.params == pytest.approx(13e9)
    assert found.weight_bytes == pytest.approx((13e9 - tables) * 4.156 / 8 + 2 * tables, rel=0.001)


def test_a_mixture_without_a_card_takes_its_experts_from_both_counts():
    shape = generic_card("some/model-30B-A3B", 30.0, card("meta-llama/Llama-2-7b-hf"))
    found = model_traits(shape, "bf16")
    assert found.expert_bytes == pytest.approx(2 * 27e9 / 120 * 128)  # (total - active) / (128 - 8) each
    assert found.params == pytest.approx(30e9)
