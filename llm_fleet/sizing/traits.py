"""What one model in one weight format costs: bytes that are stored and read, multiplications, cache per token.

Numbers of the whole model, before any splitting over devices. Formulas are counting; nothing here is fitted.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from llm_fleet.models.card import ModelCard
from llm_fleet.sizing.weights import (
    BITS_PER_WEIGHT,
    COPIED,
    EXPERTS,
    covered,
    expert_layers,
    group_bytes,
    rest_precision,
    routed,
    state_layers,
    weight_format,
    weight_groups,
)

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
    copied_bytes: float
    """Of `dense_bytes`, what every tensor-parallel rank holds in full."""
    cached_head_bytes: float
    """Of `dense_bytes`, the key and value projections: ranks beyond the number of cached heads hold copies of them."""
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
    split_activations: float
    """Elements of one token that tensor parallel splits, in the layer that needs most: the halves of an MLP and their
    product, of all experts that the token takes."""
    whole_activations: float
    """Elements of one token beside them that every rank holds: hidden vectors, and the output of each expert."""
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


HIDDEN_BUFFERS = 4
"""Hidden vectors of a token that are alive at a layer's peak: residual, input, output and one in flight."""


def _activations(card: ModelCard) -> tuple[float, float]:
    """Split and whole elements of one token at the peak of a layer, dense or with experts, whichever is more."""
    hidden = HIDDEN_BUFFERS * card.hidden_size
    width = card.intermediate_size or (0 if card.moe_intermediate_size else 4 * card.hidden_size)
    dense = (float(card.mlp_matrices * width), float(hidden))
    if not routed(card):
        return dense
    used, inputs = card.moe_active_experts or 0, card.moe_hidden_size or card.hidden_size
    experts = float(used * card.mlp_matrices * (card.moe_intermediate_size or 0)), float(hidden + used * inputs)
    return max(dense, experts, key=sum)


def model_traits(card: ModelCard, precision: str, kv_bytes_per_element: float = 2.0) -> ModelTraits:
    """Counts of `card` with weights in `precision` (a key of BITS_PER_WEIGHT).

    Raises:
        KeyError: a precision that is not known.
    """
    groups = weight_groups(card)
    counts = {group.name: group.count for group in groups}
    stored = {group.name: group_bytes(card, group, precision) for group in groups}
    in_experts = {name for name in counts if name in EXPERTS}
    experts = float(card.moe_experts or 0) if in_experts else 0.0
    used = float(card.moe_active_experts or 0) if in_experts else 0.0
    expert_params = sum(counts[name] for name in in_experts)
    expert_bytes = sum(stored[name] for name in in_experts)
    head, table = counts["head"], counts.get("embedding", 0.0)
    total = sum(counts.values())
    latent = card.attention_kind == "mla"
    attention = next(group for group in groups if group.name == "attention_output")
    plain = not covered(attention, weight_format(card, precision).scope)
    prompt_width = LATENT_PROMPT_WIDTH if latent else 2 * card.head_dim
    latent_width = 2 * LATENT_ATTENTION_RANK + LATENT_ATTENTION_ROPE if latent else 0
    window = card.sliding_window_tokens or 0
    split, whole = _activations(card)
    return ModelTraits(
        layers=card.layers,
        moe_layers=expert_layers(card),
        hidden=card.hidden_size,
        vocabulary=card.vocab_size,
        attention_heads=card.attention_heads,
        kv_heads=max(card.kv_heads, 1),
        experts=experts,
        experts_per_token=used,
        params=total,
        dense_bytes=sum(stored.values()) - expert_bytes - stored.get("embedding", 0.0),
        expert_bytes=expert_bytes,
        table_bytes=stored.get("embedding", 0.0),
        copied_bytes=sum(size for name, size in stored.items() if name in COPIED),
        cached_head_bytes=0.0 if latent else stored.get("attention_key_value", 0.0),
        dense_params=total - expert_params - head - table,
        head_params=head,
        expert_params=expert_params * used / experts if experts else 0.0,
        kv_bytes_per_token=card.kv_elements_per_token * kv_bytes_per_element,
        latent=float(latent),
        attention_flops_per_pair=2 * card.kv_layers * card.attention_heads * prompt_width,
        latent_flops_per_pair=2 * card.layers * card.attention_heads * latent_width,
        window_tokens=float(window) if window else 1e12,
        window_share=card.sliding_window_layers_fraction if window else 0.0,
        state_layers=state_layers(card),
        split_activations=split,
        whole_activations=whole,
        dense_format=format_family(rest_precision(card, precision) if plain else precision),
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
        intermediate_size=None,
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
        moe_intermediate_size=None,
        shared_expert_size=0,
        mlp_matrices=3,
    )
