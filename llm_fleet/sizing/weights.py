"""Weights by parameter group and format: which matrices a model has, which of them a format covers, and their bytes.

Counting: shapes of the public architectures, bits from the buffers of each format. What a card's total holds beyond
the groups (biases, sparse indexers, towers for images, layers that predict several tokens) is one group of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from llm_fleet.models.card import ModelCard

Scope = Literal["all", "linears", "mlps", "experts"]
"""What a quantised checkpoint covers: the whole file, every matrix of the layers, MLPs and experts, or routed experts
alone. Embedding, head, router and norms stay plain in all but the first."""

GroupName = Literal[
    "embedding",
    "head",
    "attention_down",
    "attention_query",
    "attention_key_value",
    "attention_output",
    "mlp_up",
    "mlp_down",
    "shared_up",
    "shared_down",
    "router",
    "experts_up",
    "experts_down",
    "mixers",
    "norms",
    "other",
]
"""mlp_up holds the gate too; attention_down the projections into the latents of multi-head latent attention; mixers the
layers of a hybrid that keep a fixed state in place of a cache; other what the card's total leaves over."""

ATTENTION = ("attention_down", "attention_query", "attention_key_value", "attention_output", "mixers")
MLPS = ("mlp_up", "mlp_down", "shared_up", "shared_down", "experts_up", "experts_down")
EXPERTS = ("experts_up", "experts_down")
COPIED = ("attention_down", "router", "norms")
"""Groups that every tensor-parallel rank holds in full: vLLM splits neither norms, nor routers, nor projections into
latents."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How a quantised matrix is stored: `bits` of a weight, and scales (with zero points) of `scale_bits` for every
    `group` weights of a row; group 0 is a whole output channel.
    """

    bits: float
    scale_bits: float = 0.0
    group: int = 0
    scope: Scope = "linears"

    def bits_per_weight(self, inputs: float) -> float:
        """Bits of one weight with its share of the scales, in a matrix of so many input features."""
        return self.bits + self.scale_bits / (self.group or max(inputs, 1.0))


_PLAIN = {"fp32": WeightFormat(32, scope="all"), "fp16": WeightFormat(16, scope="all")}
WEIGHT_FORMATS = {
    **_PLAIN,
    "bf16": WeightFormat(16, scope="all"),
    "fp8": WeightFormat(8, 32),  # one 32-bit scale an output channel
    "int8": WeightFormat(8, 32),
    "int8-wo": WeightFormat(8, 32),
    "gptq-int8": WeightFormat(8, 16 + 8, 128),
    "int4": WeightFormat(4, 16 + 4, 128),  # 16-bit scale and packed 4-bit zero point
    "awq-int4": WeightFormat(4, 16 + 4, 128),
    "gptq-int4": WeightFormat(4, 16 + 4, 128),
    "int4-wo": WeightFormat(4, 16, 32),
    "int4-hqq": WeightFormat(4, 8 + 8, 64),
    "w4a8": WeightFormat(4, 8 + 8, 128),
    "w4a8-kv4": WeightFormat(4, 8 + 8, 128),
    "bnb-nf4": WeightFormat(4, 32, 64),
    "bnb-nf4-dq": WeightFormat(4, 8 + 32 / 256, 64),  # the scales quantised in blocks of 256
    "mxfp4": WeightFormat(4, 8, 32, "experts"),
    "nvfp4": WeightFormat(4, 8, 16),
    # Averages of a whole file of Llama-3.1-8B, embedding and head among them.
    "q8_0": WeightFormat(8.5, scope="all"),
    "q6_k": WeightFormat(6.56, scope="all"),
    "q5_k_m": WeightFormat(5.7, scope="all"),
    "q4_k_m": WeightFormat(4.89, scope="all"),
    "gguf-q4_k_m": WeightFormat(4.89, scope="all"),
    "q4_k_xl": WeightFormat(4.9, scope="all"),
    "q4_0": WeightFormat(4.55, scope="all"),
    "q3_k_s": WeightFormat(3.64, scope="all"),
    "q2_k": WeightFormat(3.16, scope="all"),
}
"""From the buffers of each format: AutoAWQ's gemm.py (@88e4c76), the block sizes of OCP MX and NVFP4, llama.cpp's
table of file sizes (tools/quantize/README.md @311c2c9f), bitsandbytes' block of 64."""

BITS_PER_WEIGHT = {name: known.bits_per_weight(4096) for name, known in WEIGHT_FORMATS.items()}
"""Of a matrix with 4,096 input features."""

FP8_BLOCK = 128 * 128
"""Weights that share one scale in the checkpoints of DeepSeek-shaped models."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters of one kind over the whole model."""

    name: GroupName
    count: float
    inputs: float
    """Input features of its matrices: a row of so many weights has one scale where scales are per output channel."""


def weight_format(card: ModelCard, precision: str) -> WeightFormat:
    """The format of `card` in `precision`, with what its own checkpoint does differently.

    Raises:
        KeyError: a precision that is not known.
    """
    known = WEIGHT_FORMATS[precision]
    if known.scope == "all":
        return known
    if precision == "nvfp4" and card.attention_kind == "mla":
        known = replace(known, scope="mlps")  # attention stays in 16 bit in the published checkpoints
    if known.scope == "experts" and not card.mixture_of_experts:
        known = replace(known, scope="linears")
    if precision != card.native_precision:
        return known
    if "experts" in card.native_dtype:
        known = replace(known, scope="experts")
    if "block128" in card.native_dtype:
        known = replace(known, group=FP8_BLOCK)
    group = re.search(r"group(\d+)", card.native_dtype)
    return replace(known, scale_bits=16, group=int(group[1])) if group else known  # symmetric: no zero points


def rest_precision(card: ModelCard, precision: str) -> str:
    """What a checkpoint stores the matrices in that its format leaves alone: 16 bit, or what its name adds after a +
    (fp4-experts+fp8).
    """
    _, _, rest = card.native_dtype.partition("+")
    if precision == card.native_precision and rest in WEIGHT_FORMATS and WEIGHT_FORMATS[rest].bits < 16:
        return rest
    return "bf16"


def covered(group: ParameterGroup, scope: Scope) -> bool:
    """Whether a format of this scope covers the group."""
    if scope == "all":
        return True
    if scope == "experts":
        return group.name in EXPERTS
    return group.name in MLPS or (scope == "linears" and group.name in ATTENTION)


def group_bytes(card: ModelCard, group: ParameterGroup, precision: str) -> float:
    """Bytes of a group with its scales.

    Raises:
        KeyError: a precision that is not known.
    """
    wanted = weight_format(card, precision)
    if not covered(group, wanted.scope):
        wanted = WEIGHT_FORMATS[rest_precision(card, precision)]
        if not covered(group, wanted.scope):
            wanted = WEIGHT_FORMATS["bf16"]
    return group.count * wanted.bits_per_weight(group.inputs) / 8


def expert_layers(card: ModelCard) -> float:
    """Layers with routed experts."""
    if not routed(card):
        return 0.0
    return float(card.layers - (card.dense_layers or 0) if card.moe_layers is None else card.moe_layers)


def routed(card: ModelCard) -> bool:
    """Whether a token runs through some experts and not through others."""
    some = bool(card.moe_experts and card.moe_active_experts) and card.moe_experts != card.moe_active_experts
    return some and (bool(card.moe_intermediate_size) or card.params_total_billion > card.params_active_billion)


def state_layers(card: ModelCard) -> float:
    """Layers of a hybrid that keep a fixed state in place of a cache. Where some layers have no MLP, each layer is one
    thing, a mixer or an MLP (Nemotron-H).
    """
    if card.attention_kind != "hybrid":
        return 0.0
    dense = (0 if routed(card) else card.layers) if card.dense_layers is None else card.dense_layers
    without_mlp = max(card.layers - expert_layers(card) - dense, 0.0)
    return max((without_mlp or card.layers) - card.kv_layers, 0.0)


def _attention(card: ModelCard) -> list[ParameterGroup]:
    hidden, heads, layers = card.hidden_size, card.attention_heads, card.kv_layers
    if card.attention_kind != "mla":
        width, cached = heads * card.head_dim, 2 * card.kv_heads * card.head_dim
        return [
            ParameterGroup("attention_query", layers * hidden * width, hidden),
            ParameterGroup("attention_key_value", layers * hidden * cached, hidden),
            ParameterGroup("attention_output", layers * width * hidden, width),
        ]
    rank, rope, query_rank = card.mla_kv_rank or 0, card.mla_rope_dim or 0, card.mla_query_rank or 0
    plain = card.head_dim - rope
    values = heads * (card.mla_value_dim or plain)
    return [
        ParameterGroup("attention_down", layers * hidden * (query_rank + rank + rope), hidden),
        ParameterGroup(
            "attention_query", layers * (query_rank or hidden) * heads * card.head_dim, query_rank or hidden
        ),
        ParameterGroup("attention_key_value", layers * rank * (heads * plain + values), rank),
        ParameterGroup("attention_output", layers * values * hidden, values),
    ]


def _mlp(
    up: GroupName, down: GroupName, card: ModelCard, count: float, inputs: float, width: float
) -> list[ParameterGroup]:
    """`count` MLPs of that width: the matrices that widen, and the one that narrows."""
    return [
        ParameterGroup(up, count * (card.mlp_matrices - 1) * inputs * width, inputs),
        ParameterGroup(down, count * inputs * width, width),
    ]


def _mlps(card: ModelCard) -> list[ParameterGroup]:
    hidden = card.hidden_size
    if not routed(card):
        dense = card.layers if card.dense_layers is None else card.dense_layers
        return _mlp("mlp_up", "mlp_down", card, dense, hidden, card.intermediate_size or 0)
    layers, experts = expert_layers(card), float(card.moe_experts or 0)
    groups = _mlp("mlp_up", "mlp_down", card, card.dense_layers or 0, hidden, card.intermediate_size or 0)
    groups += _mlp("shared_up", "shared_down", card, layers, hidden, card.shared_expert_size)
    groups.append(ParameterGroup("router", layers * hidden * experts, hidden))
    inputs = card.moe_hidden_size or hidden
    if card.moe_intermediate_size:
        return groups + _mlp("experts_up", "experts_down", card, layers * experts, inputs, card.moe_intermediate_size)
    # Only counts are known: total = rest + E x expert, active = rest + k x expert.
    each = (card.params_total_billion - card.params_active_billion) / (experts - (card.moe_active_experts or 0)) * 1e9
    share = (card.mlp_matrices - 1) / card.mlp_matrices
    groups.append(ParameterGroup("experts_up", experts * each * share, inputs))
    groups.append(ParameterGroup("experts_down", experts * each * (1 - share), inputs))
    return groups


def shape_groups(card: ModelCard) -> list[ParameterGroup]:
    """The groups as the shape alone gives them; they may miss the card's total."""
    hidden = card.hidden_size
    table = float(card.vocab_size * hidden)
    tables = [ParameterGroup("head", table, hidden)]
    if not card.tie_embeddings:
        tables.append(ParameterGroup("embedding", table, hidden))
    norms = ParameterGroup("norms", hidden * (2 * card.layers + 1), hidden)
    return [group for group in (*tables, *_attention(card), *_mlps(card), norms) if group.count]


def weight_groups(card: ModelCard) -> list[ParameterGroup]:
    """The groups of a card, which add up to its total.

    What the total has beyond the shape is `other`, or `mixers` in a hybrid, whose layers of linear attention no card
    describes, or the MLP where its width is not known. A shape that counts more than the total (heads of some layers
    are fewer than the card can say) has its matrices outside routed experts scaled down.
    """
    total = card.params_total_billion * 1e9
    groups = shape_groups(card)
    left = total - sum(group.count for group in groups)
    if left < 0:
        scaled = [group for group in groups if group.name in (*ATTENTION, *MLPS) and group.name not in EXPERTS]
        counted = sum(group.count for group in scaled)
        factor = max(counted + left, 0.0) / counted if counted else 0.0
        return [replace(group, count=group.count * factor) if group in scaled else group for group in groups]
    if not card.intermediate_size and not card.moe_intermediate_size:
        share = (card.mlp_matrices - 1) / card.mlp_matrices
        wide = 4 * card.hidden_size
        up = ParameterGroup("mlp_up", left * share, card.hidden_size)
        return [*groups, up, ParameterGroup("mlp_down", left * (1 - share), wide)]
    name: GroupName = "mixers" if card.attention_kind == "hybrid" else "other"
    return [*groups, ParameterGroup(name, left, card.hidden_size)]
