"""Parameters and cache that are counted from a config.json agree with what is published for the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_fleet.models import ModelCard, load_models
from llm_fleet.models.hub_config import card_from_hub_config
from llm_fleet.sizing.weights import expert_layers, state_layers, weight_groups

WriteConfig = Callable[[dict[str, Any]], Path]


def plain(card: ModelCard, **keys: Any) -> dict[str, Any]:
    """The keys that most configs have, with the numbers of a card."""
    config = {
        "architectures": ["SomeForCausalLM"],
        "num_hidden_layers": card.layers,
        "hidden_size": card.hidden_size,
        "num_attention_heads": card.attention_heads,
        "num_key_value_heads": card.kv_heads,
        "head_dim": card.head_dim,
        "intermediate_size": card.intermediate_size,
        "vocab_size": card.vocab_size,
        "max_position_embeddings": card.max_context_tokens,
        "tie_word_embeddings": card.tie_embeddings,
        "torch_dtype": "bfloat16",
    }
    return {**config, **keys}


GDN = {
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "linear_num_key_heads": 16,
}
MLA = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "head_dim": None}
GLM_MLA = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 192, "v_head_dim": 256, "head_dim": None}

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("meta-llama/Llama-2-7b-hf", "llama", {}),
    ("meta-llama/Llama-3.2-1B", "llama", {}),
    ("meta-llama/Llama-3.1-405B", "llama", {}),
    ("mistralai/Mistral-Nemo-Instruct-2407", "mistral", {}),
    ("mistralai/Mistral-7B-v0.1", "mistral", {"sliding_window": 4096}),
    ("mistralai/Mixtral-8x7B-v0.1", "mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2", {"sliding_window": 32768, "use_sliding_window": False}),
    ("Qwen/Qwen2.5-72B-Instruct", "qwen2", {"sliding_window": 131072, "use_sliding_window": False}),
    ("Qwen/Qwen3-8B", "qwen3", {}),
    ("Qwen/Qwen3-30B-A3B", "qwen3_moe", {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}),
    (
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "qwen3_next",
        {
            **GDN,
            "linear_num_value_heads": 32,
            "full_attention_interval": 4,
            "num_experts": 512,
            "num_experts_per_tok": 10,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
        },
    ),
    ("Qwen/Qwen3.5-27B", "qwen3_5_text", {**GDN, "linear_num_value_heads": 48, "full_attention_interval": 4}),
    ("google/gemma-2-9b-it", "gemma2", {"sliding_window": 4096}),
    ("google/gemma-3-27b-it", "gemma3_text", {"sliding_window": 1024}),
    ("microsoft/Phi-3-mini-4k-instruct", "phi3", {"sliding_window": 2047}),
    ("microsoft/phi-4", "phi3", {}),
    (
        "deepseek-ai/DeepSeek-V2-Lite",
        "deepseek_v2",
        {
            **MLA,
            "n_routed_experts": 64,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1408,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
        },
    ),
    (
        "deepseek-ai/DeepSeek-V3",
        "deepseek_v3",
        {
            **MLA,
            "q_lora_rank": 1536,
            "n_routed_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 2048,
            "n_shared_experts": 1,
            "first_k_dense_replace": 3,
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        },
    ),
    (
        "zai-org/GLM-4.7-Flash",
        "glm4_moe_lite",
        {
            **GLM_MLA,
            "q_lora_rank": 768,
            "n_routed_experts": 64,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1536,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
        },
    ),
    (
        "openai/gpt-oss-20b",
        "gpt_oss",
        {
            "num_local_experts": 32,
            "num_experts_per_tok": 4,
            "intermediate_size": 2880,
            "sliding_window": 128,
            "layer_types": ["sliding_attention", "full_attention"] * 12,
            "quantization_config": {"quant_method": "mxfp4"},
        },
    ),
    (
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
        "llama4_text",
        {
            "intermediate_size": 8192,
            "intermediate_size_mlp": 16384,
            "num_local_experts": 128,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 8192,
        },
    ),
    (
        "zai-org/GLM-4.5-Air",
        "glm4_moe",
        {
            "n_routed_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 1408,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
        },
    ),
    (
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "nemotron_h",
        {
            "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
            "mamba_num_heads": 64,
            "mamba_head_dim": 64,
            "n_groups": 8,
            "ssm_state_size": 128,
            "conv_kernel": 4,
            "n_routed_experts": 128,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1856,
            "n_shared_experts": 1,
            "moe_shared_expert_intermediate_size": 3712,
        },
    ),
    ("CohereForAI/c4ai-command-r-v01", "cohere", {}),
    ("ibm-granite/granite-3.3-8b-instruct", "granite", {}),
    ("allenai/OLMo-2-1124-7B", "olmo2", {"torch_dtype": "float32"}),
    ("HuggingFaceTB/SmolLM3-3B", "smollm3", {}),
    ("bigcode/starcoder2-15b", "starcoder2", {"sliding_window": 4096}),
    ("facebook/opt-6.7b", "opt", {"intermediate_size": None, "ffn_dim": 16384, "torch_dtype": "float16"}),
    ("bigscience/bloom", "bloom", {"intermediate_size": None, "max_position_embeddings": None}),
    ("tiiuae/falcon-7b", "falcon", {"multi_query": True, "num_key_value_heads": None, "intermediate_size": None}),
    (
        "tiiuae/falcon-40b",
        "falcon",
        {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8, "num_key_value_heads": None},
    ),
    ("openai-community/gpt2", "gpt2", {"intermediate_size": None, "torch_dtype": "float32"}),
    ("EleutherAI/gpt-neox-20b", "gpt_neox", {}),
]


@pytest.mark.parametrize(("name", "model_type", "keys"), CASES, ids=[name for name, _, _ in CASES])
def test_counting_a_config_agrees_with_the_published_model(
    write_config: WriteConfig, name: str, model_type: str, keys: dict[str, Any]
) -> None:
    known = load_models().cards[name]
    read = card_from_hub_config(write_config(plain(known, model_type=model_type, **keys)))
    assert read.params_total_billion == pytest.approx(known.params_total_billion, rel=0.01)
    assert read.kv_elements_per_token == known.kv_elements_per_token
    assert read.kv_layers == known.kv_layers
    assert read.attention_kind == known.attention_kind
    assert read.native_precision == known.native_precision or "torch_dtype" not in keys
    assert read.sliding_window_tokens == known.sliding_window_tokens
    assert read.sliding_window_layers_fraction == pytest.approx(known.sliding_window_layers_fraction, abs=1e-4)
    assert read.moe_experts == known.moe_experts
    if known.mixture_of_experts:
        assert read.params_active_billion < known.params_active_billion * 1.3
    assert (read.mlp_matrices, read.mla_query_rank, read.mla_value_dim) == (
        *(known.mlp_matrices, known.mla_query_rank, known.mla_value_dim),
    )


@pytest.mark.parametrize(("name", "model_type", "keys"), CASES, ids=[name for name, _, _ in CASES])
def test_the_groups_of_a_config_are_those_of_the_published_model(
    write_config: WriteConfig, name: str, model_type: str, keys: dict[str, Any]
) -> None:
    known = load_models().cards[name]
    read = card_from_hub_config(write_config(plain(known, model_type=model_type, **keys)))
    expected = {group.name: group.count for group in weight_groups(known) if group.name != "other"}
    found = {group.name: group.count for group in weight_groups(read) if group.name != "other"}
    assert found == pytest.approx(expected, rel=0.03)
    assert (expert_layers(read), state_layers(read)) == (expert_layers(known), state_layers(known))


def test_the_text_part_of_a_vision_model_is_what_counts(write_config: WriteConfig) -> None:
    known = load_models().cards["google/gemma-3-4b-it"]
    text = {"model_type": "gemma3_text", "num_hidden_layers": 34, "hidden_size": 2560, "intermediate_size": 10240}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {**text, "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152},
        "torch_dtype": "bfloat16",
    }
    read = card_from_hub_config(write_config(config))
    assert read.params_total_billion == pytest.approx(known.params_total_billion, rel=0.001)
    assert read.kv_elements_per_token == known.kv_elements_per_token
    assert "not counted" in read.notes


def int_weights(bits: int, activations: bool = False) -> dict[str, Any]:
    group = {
        "weights": {"num_bits": bits, "type": "int"},
        "input_activations": {"num_bits": 8} if activations else None,
    }
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("quantization", "precision", "stored"),
    [
        (None, "fp16", "safetensors16"),
        ({"quant_method": "awq", "bits": 4}, "int4", "awq"),
        ({"quant_method": "gptq", "bits": 4}, "int4", "gptq"),
        ({"quant_method": "gptq", "bits": 8}, "int8", "w8a16"),
        ({"quant_method": "fp8"}, "fp8", "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", "nvfp4"),
        (int_weights(8, activations=True), "int8", "w8a8"),
        (int_weights(8), "int8", "w8a16"),
        (int_weights(4), "int4", "w4a16"),
    ],
)
def test_the_precision_is_that_of_the_weights_beside_the_config(
    write_config: WriteConfig, llama: dict[str, Any], quantization: dict[str, Any] | None, precision: str, stored: str
) -> None:
    read = card_from_hub_config(write_config({**llama, "quantization_config": quantization}))
    assert read.native_precision == precision
    assert {p: c.format for p, c in read.checkpoints.items()} == {precision: stored}


def test_model_optimizers_second_file_is_read(write_config: WriteConfig, llama: dict[str, Any]) -> None:
    path = write_config(llama)
    path.with_name("hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}', "utf-8")
    assert card_from_hub_config(path).native_precision == "fp8"
