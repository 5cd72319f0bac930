"""How long a context and how many sequences of full length a configuration holds: what a plan says of a pool."""

from __future__ import annotations

import math

from llm_fleet.sizing.cache import longest_sequence, sequence_bytes
from llm_fleet.sizing.case import Setup
from llm_fleet.sizing.reserve import GIB


def largest_context_tokens(setup: Setup, model_tokens: int) -> int:
    """Prompt and answer together that one sequence may have when it is alone on an engine: what the cache of one device
    holds, at most the model's own context. 0 where nothing fits.
    """
    layout = setup.layout
    found = longest_sequence(
        *(setup.traits, layout.tensor_parallel, layout.pipeline_parallel),
        *(setup.memory.kv_cache_gib * GIB, setup.limits.chunk_tokens),
    )
    return int(min(found, model_tokens))


def full_length_sequences(setup: Setup, tokens: float) -> int:
    """Sequences of that many tokens that one engine holds at once, none of them preempted: by its cache on each
    attention rank, at most what it lets run. Times `layout.replicas` for the instance.
    """
    layout = setup.layout
    each = sequence_bytes(
        *(setup.traits, layout.tensor_parallel, layout.pipeline_parallel, tokens, setup.limits.chunk_tokens)
    )
    room = max(setup.memory.kv_cache_gib, 0.0) * GIB
    fitting = math.floor(room / each) if each else math.inf
    return int(min(fitting * layout.attention_ranks, setup.limits.sequences))
