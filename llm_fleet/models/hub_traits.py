"""What a Hugging Face model_type implies beyond the keys of its config.json.

Defaults (tied embeddings, sizes that a config leaves out) are those of the configuration classes of transformers
5.24.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Traits:
    """How the decoders of one model_type are built."""

    family: str
    """In the words of models.csv, so that an engine's list of families applies."""
    gated_mlp: bool = True
    """Three matrices in the MLP (gate, up, down) instead of two."""
    tied: bool = False
    """Whether the embedding doubles as the head where the config does not say."""
    gated_attention: bool = False
    """The query projection also makes an output gate of the same width."""
    learned_positions: int = 0
    """Rows of a learned position table beyond the context length; 0: no such table."""
    window_pattern: int = 0
    """One layer in so many sees everything, where the config does not say; 0: no pattern of its own."""
    dense_beside_experts: bool = False
    """A mixture-of-experts layer runs the dense MLP too."""
    shared_expert_always: bool = False
    """One shared expert of the routed experts' width."""
    one_kv_head: bool | None = None
    """Whether multi_query is on where the config does not say; None: the key does not apply."""
    one_thing_per_layer: bool = False
    """Each layer is a mixer or an MLP, as a pattern of letters says."""
    default_context: int = 0
    """Context length where no key states one; 0: it must be stated."""
    defaults: Mapping[str, int] = field(default_factory=dict[str, int])
    """Sizes that configs of this type may leave out."""


_GEMMA3 = Traits(
    "gemma3",
    tied=True,
    window_pattern=6,
    defaults={
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
    },
)

TRAITS: Mapping[str, Traits] = {
    "bloom": Traits("bloom", gated_mlp=False, tied=True, default_context=2048),
    "cohere": Traits("command-r", tied=True),
    "cohere2": Traits("command-r", tied=True, window_pattern=4),
    "deepseek_v2": Traits("deepseek-v2"),
    "deepseek_v3": Traits("deepseek-v3"),
    "deepseek_v32": Traits("deepseek-v3.2"),
    "falcon": Traits("falcon", gated_mlp=False, tied=True, one_kv_head=True, default_context=2048),
    "gemma": Traits("gemma", tied=True, defaults={"head_dim": 256}),
    "gemma2": Traits("gemma2", tied=True, window_pattern=2, defaults={"head_dim": 256}),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma4_text": Traits("gemma4", tied=True, dense_beside_experts=True),
    "glm4": Traits("glm4"),
    "glm4_moe": Traits("glm4.5"),
    "glm4_moe_lite": Traits("glm4.7"),
    "glm_moe_dsa": Traits("glm5"),
    "gpt2": Traits("gpt2", gated_mlp=False, tied=True, learned_positions=1),
    "gpt_bigcode": Traits("starcoder", gated_mlp=False, tied=True, learned_positions=1, one_kv_head=True),
    "gpt_neox": Traits("gptneox", gated_mlp=False),
    "gpt_oss": Traits("gpt-oss"),
    "gptj": Traits("gptj", gated_mlp=False),
    "granite": Traits("granite3"),
    "granitemoehybrid": Traits("granite4"),
    "kimi_k2": Traits("kimi-k2"),
    "llama": Traits("llama"),
    "llama4_text": Traits("llama4", window_pattern=4, shared_expert_always=True),
    "minimax_m2": Traits("minimax-m2"),
    "minimax_m3": Traits("minimax-m3"),
    "ministral3": Traits("ministral3"),
    "mistral": Traits("mistral"),
    "mixtral": Traits("mixtral"),
    "mpt": Traits("mpt", gated_mlp=False, tied=True),
    "nemotron_h": Traits("nemotron3", gated_mlp=False, one_thing_per_layer=True),
    "olmo": Traits("olmo"),
    "olmo2": Traits("olmo2"),
    "olmo3": Traits("olmo3"),
    "opt": Traits("opt", gated_mlp=False, tied=True, learned_positions=3),
    "phi": Traits("phi", gated_mlp=False),
    "phi3": Traits("phi3"),
    "qwen2": Traits("qwen2.5"),
    "qwen2_5_vl": Traits("qwen2.5"),
    "qwen2_5_vl_text": Traits("qwen2.5"),
    "qwen2_moe": Traits("qwen2"),
    "qwen3": Traits("qwen3"),
    "qwen3_5_moe_text": Traits("qwen3.5", gated_attention=True),
    "qwen3_5_text": Traits("qwen3.5", gated_attention=True),
    "qwen3_moe": Traits("qwen3-moe"),
    "qwen3_next": Traits("qwen3-next", gated_attention=True),
    "qwen3_vl_moe_text": Traits("qwen3-moe"),
    "qwen3_vl_text": Traits("qwen3"),
    "seed_oss": Traits("seed-oss"),
    "smollm3": Traits("smollm3", tied=True),
    "starcoder2": Traits("starcoder2", gated_mlp=False, tied=True),
}
"""By model_type of the decoder (a vision-language config nests it under text_config)."""
