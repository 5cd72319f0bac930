"""Memory of a resolved configuration as a plan says it: a sequence's cache, the longest context, sequences that fit."""

from __future__ import annotations

from llm_fleet.sizing import cache
from llm_fleet.sizing.case import Setup
from llm_fleet.sizing.reserve import GIB

NO_LIMIT = 10**9
"""Tokens where no layer keeps every one of them."""


def sequence_bytes(setup: Setup, tokens: float) -> float:
    """What one addressable device sets aside for a sequence of `tokens` tokens: whole blocks, and a fixed state."""
    layout = setup.layout
    return cache.sequence_bytes(
        *(setup.traits, layout.tensor_parallel, layout.pipeline_parallel, tokens, setup.limits.chunk_tokens)
    )


def sequences_that_fit(setup: Setup, tokens: float) -> int:
    """Sequences of `tokens` tokens whose caches fit one replica at once; its attention ranks hold their own."""
    room = max(setup.memory.kv_cache_gib, 0.0) * GIB
    return int(room // sequence_bytes(setup, tokens)) * int(setup.layout.attention_ranks)


def largest_context_tokens(setup: Setup) -> int:
    """Tokens of the longest sequence, prompt and answer together, that a replica holds alone; 0 where the weights leave
    no room.
    """
    layout = setup.layout
    found = cache.longest_sequence(
        *(setup.traits, layout.tensor_parallel, layout.pipeline_parallel),
        *(setup.memory.kv_cache_gib * GIB, setup.limits.chunk_tokens),
    )
    return int(min(found, NO_LIMIT))
