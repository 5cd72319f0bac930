"""Seconds of one engine step: what must be read, computed and sent, plus fixed costs.

    t = max(weights / bandwidth, flops / compute) + cache / bandwidth + all-reduces + layers + sequences + step

The form follows inference-sim's latency model (inference-sim/inference-sim @f90a1e3a, docs/guide/latency-models.md) and
LLM-Viewer's roofline (hahnyuan/LLM-Viewer @472f71f1); the coefficients are in configs/catalog/efficiency.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_fleet.catalog.types import Efficiency
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing import memory


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine process on `tensor_parallel` equal devices, as the step model sees it. Rates are per device."""

    card: ModelCard
    precision: str
    tensor_parallel: int
    bandwidth_bytes_per_s: float
    compute_flops_per_s: float
    efficiency: Efficiency
    weight_bytes: float
    expert_bytes: float
    kv_bytes_per_token: float


def _by_degree(table: Mapping[int, float], degree: int) -> float:
    """The entry of the degree, or of the next larger one, or of the largest."""
    larger = [known for known in table if known >= degree]
    return table[min(larger) if larger else max(table)]


def experts_touched_share(card: ModelCard, tokens: float) -> float:
    """Expected share of a layer's experts that `tokens` independent tokens reach: 1 - (1 - k/E)^n, uniform routing."""
    if not card.moe_experts or not card.moe_active_experts:
        return 1.0
    return 1 - (1 - card.moe_active_experts / card.moe_experts) ** max(tokens, 1.0)


def all_reduce_seconds(replica: Replica, tokens: float) -> float:
    """Both all-reduces of every layer for `tokens` tokens: each a latency floor or bytes over bandwidth, whichever
    is longer.
    """
    degree = replica.tensor_parallel
    if degree == 1:
        return 0.0
    message_bytes = tokens * replica.card.hidden_size * 2
    floor = _by_degree(replica.efficiency.all_reduce_latency_us, degree) * 1e-6
    rate = _by_degree(replica.efficiency.all_reduce_gb_per_s, degree) * 1e9
    return 2 * replica.card.layers * max(floor, message_bytes / rate)


def step_seconds(replica: Replica, sequences: float, context_tokens: float, prefill_tokens: float) -> float:
    """One step that decodes one token for each of `sequences` at a mean context, and carries `prefill_tokens` of
    prompts.
    """
    tokens = sequences + prefill_tokens
    eff, card = replica.efficiency, replica.card
    parallel_bandwidth = replica.tensor_parallel * replica.bandwidth_bytes_per_s
    read = replica.weight_bytes - replica.expert_bytes * (1 - experts_touched_share(card, tokens))
    table_billion = 0.0 if card.tie_embeddings else card.embedding_params_billion / 2
    flops = 2e9 * (card.params_active_billion - table_billion) * tokens
    flops += 4 * card.layers * card.attention_heads * card.head_dim * prefill_tokens * context_tokens / 2
    weights_s = read / (parallel_bandwidth * eff.weights_bandwidth_share)
    compute_s = flops / (replica.tensor_parallel * replica.compute_flops_per_s * eff.prefill_compute_share)
    cached = memory.cached_tokens(card, context_tokens) * sequences
    cache_s = cached * replica.kv_bytes_per_token / (replica.bandwidth_bytes_per_s * eff.kv_bandwidth_share)
    fixed_s = 1e-6 * (eff.per_layer_us * card.layers + eff.per_sequence_us * sequences + eff.per_step_us)
    return max(weights_s, compute_s) + cache_s + all_reduce_seconds(replica, tokens) + fixed_s


def prefill_seconds(replica: Replica, prompt_tokens: int, chunk_tokens: int) -> float:
    """A whole prompt through an idle engine, in chunks."""
    full, rest = divmod(prompt_tokens, chunk_tokens)
    sizes = [chunk_tokens] * full + ([rest] if rest else [])
    return sum(step_seconds(replica, 0, prompt_tokens, size) for size in sizes)
