"""Memory of one device that serves a model, in bytes and GiB. Counting, after reference formulas named at each
function.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.models.card import ModelCard

GIB = 2**30
KV_BLOCK_TOKENS = 16
"""Tokens in one block of vLLM's paged cache (vllm/config/cache.py, default block size)."""

BITS_PER_WEIGHT = {
    "fp32": 32.0,
    "fp16": 16.0,
    "bf16": 16.0,
    "fp8": 8.002,
    "int8": 8.01,
    "int4": 4.156,
    "mxfp4": 4.25,
    "nvfp4": 4.5,
}
"""Bits of one quantised weight with its scales: fp8 in 128x128 blocks 8 + 32/16384; int8 per output channel 8 +
32/in_features
(4096 taken); int4 as AWQ or GPTQ of group 128, 4 + 20/128; mxfp4 4 + 8/32; nvfp4 4 + 8/16. Derived from each
format's buffers
(casper-hansen/AutoAWQ@88e4c76 awq/modules/linear/gemm.py; the OCP microscaling and NVFP4 block sizes)."""

GPU_MEMORY_UTILIZATION = 0.92
"""Share of the device that vLLM may fill; its default since 0.19 (vllm/config/cache.py @002f10e0)."""

NON_TORCH_GIB = {"single": 0.15, "parallel": 0.6}
"""Context and communication buffers outside the framework's allocator, one device or several
(inference-sim @f90a1e3a: 0.15 GiB at TP1, 0.6 GiB per GPU above)."""

GRAPHS_GIB = 0.5
"""Captured CUDA graphs: 0.25 to 1.3 GiB were seen for 8B to 400B models (vLLM PR 30515 and 45197, kvplan 0.1.1);
0.5 taken.
"""

NEURON_RUNTIME_GIB = 1.0
"""Runtime, collectives and compiled code per NeuronCore. An assumption: no measurement found."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What one device of a replica holds, in GiB."""

    usable_gib: float
    weights_gib: float
    reserve_gib: float

    @property
    def kv_cache_gib(self) -> float:
        """What is left for the cache; negative where weights and reserve do not fit."""
        return self.usable_gib - self.weights_gib - self.reserve_gib


def expert_params_billion(card: ModelCard) -> float:
    """Parameters in routed experts, from total = dense + E x expert and active = dense + k x expert."""
    if not card.moe_experts or not card.moe_active_experts or card.moe_experts == card.moe_active_experts:
        return 0.0
    per_expert = (card.params_total_billion - card.params_active_billion) / (card.moe_experts - card.moe_active_experts)
    return per_expert * card.moe_experts


def quantised_params_billion(card: ModelCard, precision: str) -> float:
    """Parameters stored in `precision`; the rest (embeddings, head, and all but the experts where only they are
    quantised) in 16 bit.
    """
    if precision in ("fp32", "fp16", "bf16"):
        return card.params_total_billion
    if precision == card.native_precision and "experts" in card.native_dtype:
        return expert_params_billion(card)
    return max(0.0, card.params_total_billion - card.embedding_params_billion)


def weight_bytes(card: ModelCard, precision: str) -> float:
    """Bytes of all weights in `precision`. Raises KeyError for a precision outside BITS_PER_WEIGHT."""
    quantised = quantised_params_billion(card, precision)
    plain = card.params_total_billion - quantised
    return 1e9 / 8 * (quantised * BITS_PER_WEIGHT[precision] + plain * 16)


def expert_bytes(card: ModelCard, precision: str) -> float:
    """Bytes of the routed experts, which every quantised format covers. Zero for a dense model."""
    return 1e9 / 8 * expert_params_billion(card) * BITS_PER_WEIGHT[precision]


def kv_bytes_per_token(card: ModelCard, tensor_parallel: int, kv_bytes_per_element: float = 2.0) -> float:
    """Cache bytes that one token adds on one device.

    KV heads are split over the devices and, beyond their number, replicated; the compressed cache of multi-head
    latent attention
    is shared by all heads, so every device holds all of it.
    """
    if card.attention_kind == "mla":
        return card.kv_elements_per_token * kv_bytes_per_element
    share = max(1.0, card.kv_heads / tensor_parallel) / card.kv_heads
    return card.kv_elements_per_token * share * kv_bytes_per_element


def cached_tokens(card: ModelCard, sequence_tokens: float) -> float:
    """Tokens of one sequence that the cache keeps, averaged over the layers: windowed layers keep at most their
    window.
    """
    blocks = -(-sequence_tokens // KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS
    if not card.sliding_window_tokens:
        return blocks
    windowed = min(blocks, card.sliding_window_tokens)
    fraction = card.sliding_window_layers_fraction
    return (1 - fraction) * blocks + fraction * windowed


def activation_gib(card: ModelCard, tensor_parallel: int, batched_tokens: int, sequences: int) -> float:
    """Peak of a step's activations on one device: two MLP halves and four hidden-wide buffers per token, logits of
    each sequence in fp32.
    """
    wide = 2 * (card.intermediate_size or 4 * card.hidden_size) / tensor_parallel + 4 * card.hidden_size
    return (batched_tokens * wide * 2 + sequences * card.vocab_size * 4) / GIB


def gpu_device_memory(
    card: ModelCard, precision: str, usable_gib: float, tensor_parallel: int, batched_tokens: int, sequences: int
) -> DeviceMemory:
    """One GPU of a vLLM replica: weights split by tensor parallel, the engine's reserve taken off."""
    outside = NON_TORCH_GIB["single" if tensor_parallel == 1 else "parallel"]
    reserve = (
        usable_gib * (1 - GPU_MEMORY_UTILIZATION)
        + activation_gib(card, tensor_parallel, batched_tokens, sequences)
        + outside
        + GRAPHS_GIB
    )
    return DeviceMemory(usable_gib, weight_bytes(card, precision) / tensor_parallel / GIB, reserve)


def neuron_device_memory(card: ModelCard, usable_gib: float, tensor_parallel: int, bucket_tokens: int) -> DeviceMemory:
    """One NeuronCore of a replica. Weights are 16 bit; the largest compiled context bucket sets the activations."""
    reserve = NEURON_RUNTIME_GIB + activation_gib(card, tensor_parallel, bucket_tokens, 1)
    return DeviceMemory(usable_gib, weight_bytes(card, "bf16") / tensor_parallel / GIB, reserve)
