"""What one model in one weight format costs: bytes that are stored and read, multiplications, cache per token.

Numbers of the whole model, before any splitting over devices. Formulas are counting; nothing here is fitted.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from llm_fleet.models.card import ModelCard

BITS_PER_WEIGHT = {
    **{"fp32": 32.0, "fp16": 16.0, "bf16": 16.0, "fp8": 8.002, "int8": 8.01, "int8-wo": 8.01, "gptq-int8": 8.2},
    **{"int4": 4.156, "awq-int4": 4.156, "gptq-int4": 4.156, "int4-wo": 4.5, "int4-hqq": 4.2, "w4a8": 4.2},
    **{"w4a8-kv4": 4.2, "bnb-nf4": 4.5, "bnb-nf4-dq": 4.2, "mxfp4": 4.25, "nvfp4": 4.5, "q8_0": 8.5, "q6_k": 6.56},
    **{"q5_k_m": 5.7, "q4_k_m": 4.89, "gguf-q4_k_m": 4.89, "q4_k_xl": 4.9, "q4_0": 4.55, "q3_k_s": 3.64, "q2_k": 3.16},
}
"""Bits of one quantised weight with its scales: per-block and per-channel scales of fp8 and int8, AWQ and GPTQ of
group 128 (4 + 20/128), mxfp4 4 + 8/32, nvfp4 4 + 8/16, whole-file averages of the GGUF formats."""

FORMAT_FAMILY = {"fp32": "16-bit", "fp16": "16-bit", "bf16": "16-bit", "fp8": "8-bit float", "nvfp4": "4-bit float"}
"""Formats whose kernels are alike share one share of the bandwidth; the rest are told by their bits."""

LATENT_ATTENTION_RANK = 512
LATENT_ATTENTION_ROPE = 64
"""Of the compressed cache of DeepSeek-shaped models, used where a card does not say."""
LATENT_PROMPT_WIDTH = 320
"""Multiplications of one head and pair while a prompt is read, its cache expanded: 192 for scores, 128 for values."""

HYBRID_STATE_BYTES_PER_LAYER = 2.1e6
"""Fixed state of one linear-attention layer and sequence: 32 heads x 128 x 128 x 4 bytes (Qwen3.5-35B-A3B)."""


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """One model in one format. Bytes and counts are of the whole model."""

    layers: float
    moe_layers: float
    hidden: float
    vocabulary: float
    attention_heads: float
    kv_heads: float
    experts: float
    """Routed experts of a layer; 0 for a dense model."""
    experts_per_token: float
    params: float
    """Stored weights, all of them."""
    dense_bytes: float
    """Read in every step: all but routed experts and the input embedding."""
    expert_bytes: float
    """All routed experts."""
    table_bytes: float
    """The input embedding: stored, a few rows read."""
    dense_params: float
    """Multiplied for every token: all but routed experts, embedding and head."""
    head_params: float
    """Multiplied for every token that is sampled."""
    expert_params: float
    """Of routed experts, multiplied for one token."""
    kv_bytes_per_token: float
    latent: float
    """1 where all heads share one compressed cache (multi-head latent attention), which tensor parallel copies."""
    attention_flops_per_pair: float
    """Of one prompt token against one earlier token, all layers and heads."""
    latent_flops_per_pair: float
    """Of one decoded token against one token of a compressed cache; 0 for other caches."""
    window_tokens: float
    window_share: float
    """Share of the cache whose layers keep at most `window_tokens`."""
    state_layers: float
    """Layers with a fixed state in place of a cache."""
    dense_format: str
    expert_format: str
    precision: str

    @property
    def weight_bytes(self) -> float:
        """All weights as stored."""
        return self.dense_bytes + self.expert_bytes + self.table_bytes

    @property
    def state_bytes(self) -> float:
        """Fixed state of one sequence."""
        return self.state_layers * HYBRID_STATE_BYTES_PER_LAYER


def format_family(precision: str) -> str:
    """Which kernels a precision means: 16-bit, 8-bit float, 8-bit integer, 4-bit float, 4-bit mx, 4-bit integer."""
    if precision in FORMAT_FAMILY:
        return FORMAT_FAMILY[precision]
    if precision == "mxfp4":
        return "4-bit mx"
    return "8-bit integer" if BITS_PER_WEIGHT[precision] > 6 else "4-bit integer"


def experts_only(card: ModelCard, precision: str) -> bool:
    """Whether the format covers the routed experts alone: checkpoints published that way, and nvfp4 of the models with
    latent attention, whose attention stays in 16 bit.
    """
    published = precision == card.native_precision and "experts" in card.native_dtype
    return published or precision == "mxfp4" or (precision == "nvfp4" and card.attention_kind == "mla")


def model_traits(card: ModelCard, precision: str, kv_bytes_per_element: float = 2.0) -> ModelTraits:
    """Counts of `card` with weights in `precision` (a key of BITS_PER_WEIGHT).

    Raises:
        KeyError: a precision that is not known.
    """
    bits = BITS_PER_WEIGHT[precision]
    total, active = card.params_total_billion * 1e9, card.params_active_billion * 1e9
    experts, used = float(card.moe_experts or 0), float(card.moe_active_experts or 0)
    if experts and used and experts != used and total > active:
        expert_params = (total - active) / (experts - used)
    else:
        experts = used = expert_params = 0.0
    table = card.vocab_size * card.hidden_size * 1.0
    tables = 1 if card.tie_embeddings else 2
    body = max(total - experts * expert_params - tables * table, 0.0)
    plain = 32.0 if precision == "fp32" else 16.0
    body_bits = plain if experts_only(card, precision) and experts else bits
    latent = card.attention_kind == "mla"
    prompt_width = LATENT_PROMPT_WIDTH if latent else 2 * card.head_dim
    latent_width = 2 * LATENT_ATTENTION_RANK + LATENT_ATTENTION_ROPE if latent else 0
    window = card.sliding_window_tokens or 0
    share = card.sliding_window_layers_fraction if window else 0.0
    moe_layers = card.layers if experts else 0
    return ModelTraits(
        layers=card.layers,
        moe_layers=moe_layers,
        hidden=card.hidden_size,
        vocabulary=card.vocab_size,
        attention_heads=card.attention_heads,
        kv_heads=max(card.kv_heads, 1),
        experts=experts,
        experts_per_token=used,
        params=total,
        dense_bytes=(body * body_bits + table * plain) / 8,
        expert_bytes=experts * expert_params * bits / 8,
        table_bytes=(tables - 1) * table * plain / 8,
        dense_params=body,
        head_params=table,
        expert_params=used * expert_params,
        kv_bytes_per_token=card.kv_elements_per_token * kv_bytes_per_element,
        latent=float(latent),
        attention_flops_per_pair=2 * card.kv_layers * card.attention_heads * prompt_width,
        latent_flops_per_pair=2 * card.layers * card.attention_heads * latent_width,
        window_tokens=float(window) if window else 1e12,
        window_share=share,
        state_layers=max(card.layers - card.kv_layers, 0) if card.attention_kind == "hybrid" else 0,
        dense_format=format_family("bf16" if body_bits >= 16 else precision),
        expert_format=format_family(precision),
        precision=precision,
    )


_ACTIVE = re.compile(r"A(\d+(?:\.\d+)?)B", re.IGNORECASE)


def generic_card(
    name: str, params_billion: float, template: ModelCard, known_active_billion: float | None = None
) -> ModelCard:
    """A card for a model that no card describes: the usual shape of a dense decoder of that size (7 B: 32 layers of
    4,096; 70 B: 80 of 8,192), 8 cached heads of 128. `A3B` in the name is read as 3 billion active parameters, routed
    over 128 experts, 8 at a time. `template` fills what does not matter.
    """
    named = _ACTIVE.search(name)
    active_billion = known_active_billion or (float(named[1]) if named else params_billion)
    active_billion = min(active_billion, params_billion)
    shape = (active_billion * params_billion) ** 0.5
    hidden = max(256, round(4096 * (shape / 7) ** 0.3 / 128) * 128)
    layers = max(8, round(32 * (shape / 7) ** 0.4))
    sparse = active_billion < 0.7 * params_billion
    return dataclasses.replace(
        template,
        name=name,
        params_total_billion=params_billion,
        params_active_billion=active_billion,
        layers=layers,
        hidden_size=hidden,
        attention_heads=max(hidden // 128, 1),
        kv_heads=8,
        head_dim=128,
        intermediate_size=4 * hidden,
        vocab_size=32000 if params_billion > 0.5 else 16000,
        tie_embeddings=params_billion < 4,
        attention_kind="gqa",
        sliding_window_tokens=None,
        sliding_window_layers_fraction=0.0,
        moe_experts=128 if sparse else None,
        moe_active_experts=8 if sparse else None,
        kv_layers=layers,
        kv_elements_per_token=2 * layers * 8 * 128,
        native_precision="bf16",
        native_dtype="bfloat16",
    )
