"""The cache of keys and values by layer kind: what a token and a sequence hold on one device.

    full attention      2 x cached heads x width a layer; heads split over tensor parallel, copied beyond their number
    latent (MLA)        one compressed vector for all heads, whole on every rank
    sliding window      at most the window
    hybrid              a fixed state a layer in place of a cache, split over the ranks

Sequences hold whole blocks of tokens (vLLM: 16).
"""

from __future__ import annotations

import math

import numpy as np

from llm_fleet.sizing.coefficients import Floats
from llm_fleet.sizing.traits import ModelTraits

BLOCK_TOKENS = 16
"""Tokens that the cache is given in at a time (vLLM's default block)."""


def kept_tokens(context: Floats, window_tokens: Floats, window_share: Floats) -> Floats:
    """Cached tokens of a sequence, averaged over the layers: windowed ones keep their window at most."""
    return (1 - window_share) * context + window_share * np.minimum(context, window_tokens)


def in_blocks(tokens: Floats, compiled: Floats) -> Floats:
    """Mean tokens that sequences of a mean length occupy: half a block more. Compiled engines reserve exact lengths."""
    return tokens + np.where(compiled > 0, 0.0, (BLOCK_TOKENS - 1) / 2)


def share_of_rank(traits: ModelTraits, tensor_parallel: float) -> float:
    """Part of a token's cache that one tensor-parallel rank holds."""
    return 1.0 if traits.latent else max(1.0 / tensor_parallel, 1.0 / traits.kv_heads)


def token_bytes(traits: ModelTraits, tensor_parallel: float, stages: float) -> float:
    """Cache of one token on one device, in layers that keep every token."""
    return traits.kv_bytes_per_token * share_of_rank(traits, tensor_parallel) / stages


def state_bytes(traits: ModelTraits, tensor_parallel: float, stages: float) -> float:
    """Fixed state of one sequence on one device."""
    return traits.state_bytes / tensor_parallel / stages


def sequence_bytes(
    traits: ModelTraits, tensor_parallel: float, stages: float, tokens: float, chunk_tokens: float
) -> float:
    """What one device sets aside for a sequence of that many tokens. A windowed layer needs its window, the chunk that
    is being read in and a block, as vLLM plans it (SlidingWindowSpec.max_memory_usage_bytes).
    """
    whole = _blocks(tokens)
    windowed = _blocks(min(tokens, _window(traits, chunk_tokens)))
    kept = (1 - traits.window_share) * whole + traits.window_share * min(windowed, whole)
    return kept * token_bytes(traits, tensor_parallel, stages) + state_bytes(traits, tensor_parallel, stages)


def longest_sequence(
    traits: ModelTraits, tensor_parallel: float, stages: float, room_bytes: float, chunk_tokens: float
) -> float:
    """Tokens of the longest sequence that a device with that room holds, in whole blocks; infinite where no layer keeps
    every token, 0 where none fits.
    """
    each = token_bytes(traits, tensor_parallel, stages)
    left = room_bytes - state_bytes(traits, tensor_parallel, stages)
    if left <= 0:
        return 0.0
    tokens = left / each if each else math.inf
    window = _blocks(_window(traits, chunk_tokens))
    if tokens > window and traits.window_share:
        full = 1 - traits.window_share
        tokens = (tokens - traits.window_share * window) / full if full > 0 else math.inf
    return tokens if math.isinf(tokens) else math.floor(tokens / BLOCK_TOKENS + 1e-9) * BLOCK_TOKENS


def _blocks(tokens: float) -> float:
    return math.ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS


def _window(traits: ModelTraits, chunk_tokens: float) -> float:
    return traits.window_tokens - 1 + chunk_tokens + BLOCK_TOKENS
