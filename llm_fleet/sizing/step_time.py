"""Seconds of one engine step: what is read, multiplied and sent, and fixed costs. Arrays or single numbers.

    step = norm(weights read, weights multiplied) + cache + prompt attention + all-reduces + layers + sequences + step

The norm lies between the sum and the larger of the two: reading and multiplying overlap in part. The form follows
published roofline models with fitted overheads (docs/accuracy.md); every coefficient is in coefficients.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llm_fleet.sizing import cache
from llm_fleet.sizing.coefficients import Floats


@dataclass(frozen=True, slots=True)
class Work:
    """One engine on its devices: a model's traits, split. Byte and rate figures are of one addressable device."""

    bandwidth: Floats
    """Bytes per second."""
    flops: Floats
    """Per second, dense, in the format of the weights outside routed experts."""
    expert_flops: Floats
    attention_flops: Floats
    """Per second in 16 bit."""
    link_bandwidth: Floats
    over_bus: Floats
    """1 where devices talk over PCIe."""
    dense_bytes: Floats
    expert_bytes: Floats
    dense_flop_per_token: Floats
    head_flop_per_sequence: Floats
    expert_flop_per_token: Floats
    expert_miss: Floats
    """Share of a layer's experts that one token leaves alone: 1 - k/E; 0 for a dense model."""
    moe_layers: Floats
    layers: Floats
    state_layers: Floats
    latent_layers: Floats
    hidden: Floats
    vocabulary: Floats
    cache_bytes_per_token: Floats
    latent_flop_per_pair: Floats
    """Of one decoded token against one cached token, where the cache is compressed."""
    attention_flop_per_pair: Floats
    state_bytes: Floats
    window_tokens: Floats
    window_share: Floats
    tensor_parallel: Floats
    expert_shard: Floats
    attention_ranks: Floats
    stages: Floats
    newer: Floats
    """Fives of minor versions after the first of its engine class."""


Rates = Mapping[str, Floats]


def kept_tokens(work: Work, context: Floats) -> Floats:
    """Cached tokens of a sequence, averaged over the layers: windowed ones keep their window at most."""
    return cache.kept_tokens(context, work.window_tokens, work.window_share)


def experts_touched(work: Work, rates: Rates, tokens: Floats) -> Floats:
    """Expected share of a layer's experts that a step's tokens reach: 1 - (1 - k/E)^n, n softened for uneven routes."""
    everywhere = np.maximum(tokens * work.attention_ranks, 1.0)
    return 1 - work.expert_miss ** (everywhere ** rates["expert_skew"])


def weights_seconds(work: Work, rates: Rates, tokens: Floats, sampled: Floats) -> Floats:
    """Reading and multiplying the weights of one stage for `tokens` tokens, `sampled` of which get a successor."""
    dense_read = work.dense_bytes / (work.bandwidth * rates["weights_share"])
    experts_read = work.expert_bytes * experts_touched(work, rates, tokens) / (work.bandwidth * rates["experts_share"])
    dense_flop = tokens * work.dense_flop_per_token + sampled * work.head_flop_per_sequence
    dense_multiply = dense_flop / (work.flops * rates["compute_share"])
    experts_multiply = tokens * work.expert_flop_per_token / (work.expert_flops * rates["expert_compute_share"])
    order = 1 + rates["sharpness"]
    read, multiply = dense_read + experts_read, dense_multiply + experts_multiply
    return (read**order + multiply**order) ** (1 / order)


def cache_seconds(work: Work, rates: Rates, sequences: Floats, context: Floats) -> Floats:
    """Reading the cache and the states of `sequences`, or computing over a compressed cache, whichever is longer."""
    kept = kept_tokens(work, context)
    read = sequences * (kept * work.cache_bytes_per_token + 2 * work.state_bytes)
    pairs = sequences * kept * work.latent_flop_per_pair
    return np.maximum(
        read / (work.bandwidth * rates["cache_share"]),
        pairs / (work.attention_flops * rates["latent_compute_share"]),
    )


def prompt_attention_seconds(work: Work, rates: Rates, prompt_tokens: Floats, prompt_context: Floats) -> Floats:
    """Attention of `prompt_tokens` new tokens over a mean of `prompt_context` earlier ones."""
    pairs = prompt_tokens * kept_tokens(work, prompt_context)
    return pairs * work.attention_flop_per_pair / (work.attention_flops * rates["attention_compute_share"])


def all_reduce_seconds(work: Work, rates: Rates, tokens: Floats) -> Floats:
    """Both all-reduces of every layer: a floor that grows with the devices, and bytes over the link's bandwidth, which
    PCIe loses as more devices share it.
    """
    devices = np.maximum(work.tensor_parallel, work.expert_shard)
    floor = rates["all_reduce_us"] * 1e-6 * (1 + rates["all_reduce_growth"] * np.maximum(devices - 2, 0))
    contention = np.where(work.over_bus > 0, np.maximum(devices / 2, 1) ** rates["bus_contention"], 1.0)
    bandwidth = work.link_bandwidth * rates["link_share"] / contention
    message = tokens * work.hidden * 2 * 2 * (devices - 1) / devices
    return np.where(devices > 1, 2 * work.layers * (floor + message / bandwidth), 0.0)


def fixed_seconds(work: Work, rates: Rates) -> Floats:
    """Launches and small kernels of one pipeline stage, whatever its tokens."""
    age = np.exp(-rates["yearly_gain"] * work.newer)
    return 1e-6 * (
        rates["layer_us"] * age * work.layers
        + rates["moe_layer_us"] * age * work.moe_layers
        + rates["latent_layer_us"] * work.latent_layers
        + rates["state_layer_us"] * work.state_layers
    )


def step_seconds(
    work: Work, rates: Rates, sequences: Floats, context: Floats, prompt_tokens: Floats, prompt_context: Floats
) -> Floats:
    """One step that decodes a token for each of `sequences` at a mean context and carries `prompt_tokens` of prompts.

    Layers, bytes and caches of `work` are those of one pipeline stage; the stages follow one another.
    """
    tokens = sequences + prompt_tokens
    stage = (
        weights_seconds(work, rates, tokens, np.maximum(sequences, 1.0))
        + cache_seconds(work, rates, sequences, context)
        + prompt_attention_seconds(work, rates, prompt_tokens, prompt_context)
        + all_reduce_seconds(work, rates, tokens)
        + fixed_seconds(work, rates)
    )
    return stage * work.stages + 1e-6 * (rates["sequence_us"] * sequences + rates["step_us"])
