"""The shapes that a Neuron engine compiles, and what a request loses by being padded to them.

NeuronCores run graphs of fixed shape. Inferentia2 and Trainium1 (NxD Inference) compile prompts by length and decoding
by the length of the cache, at one batch; Trainium2 (vllm-neuron) compiles prompts by length and decoding by batch, and
reads the cache as if every sequence were of full length. Rules read in aws-neuron/neuronx-distributed-inference
@4bcdc54 modules/autobucketing.py and aws-neuron-sdk @43a8962 vllm-neuron/docs/guides/reference-configuration.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from llm_fleet.catalog.types import Engine

SMALLEST_BUCKET_TOKENS = 128
BATCH_BUCKETS = "batch-buckets"
"""Capability of an engine that compiles decoding by batch; the others compile it by length of the cache."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Compiled shapes, each list ascending. A prompt is one graph per `context_tokens`; a decode step is one graph per
    pair of `cache_tokens` and `batches`.
    """

    context_tokens: tuple[int, ...]
    cache_tokens: tuple[int, ...]
    batches: tuple[int, ...]

    @property
    def graphs(self) -> int:
        """Graphs that are compiled."""
        return len(self.context_tokens) + len(self.cache_tokens) * len(self.batches)


def compiled_buckets(
    engine: Engine, max_model_len_tokens: int, max_num_seqs: int, max_num_batched_tokens: int
) -> Buckets:
    """What the engine compiles by itself for these limits; `max_num_batched_tokens` counts on Trainium2 only."""
    if BATCH_BUCKETS in engine.capabilities:
        return batch_buckets(max_model_len_tokens, max_num_seqs, max_num_batched_tokens)
    return length_buckets(max_model_len_tokens, max_num_seqs)


def length_buckets(max_model_len_tokens: int, max_num_seqs: int) -> Buckets:
    """NxD Inference: lengths for prompts and for the cache; prompts one at a time, decoding always at full batch."""
    lengths = _lengths(max_model_len_tokens)
    return Buckets(lengths, lengths, (max_num_seqs,))


def batch_buckets(max_model_len_tokens: int, max_num_seqs: int, max_num_batched_tokens: int) -> Buckets:
    """vllm-neuron: prompt lengths up to one step's tokens, powers of two of the batch, the cache at full length."""
    longest = min(max_num_batched_tokens, max_model_len_tokens)
    return Buckets(_up_to(SMALLEST_BUCKET_TOKENS, longest), (max_model_len_tokens,), _up_to(1, max_num_seqs))


def padded(size: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `size`.

    Raises:
        ValueError: none does.
    """
    for bucket in buckets:
        if size <= bucket:
            return bucket
    raise ValueError(f"{size} is above the largest bucket, {buckets[-1]}")


def padded_prompt_tokens(buckets: Buckets, prompt_tokens: int) -> int:
    """Tokens that are computed for a prompt. Above the largest bucket it goes in segments of that size (Trainium2)."""
    whole, rest = divmod(prompt_tokens, buckets.context_tokens[-1])
    return whole * buckets.context_tokens[-1] + (padded(rest, buckets.context_tokens) if rest else 0)


def prompt_waste(buckets: Buckets, prompt_tokens: int) -> float:
    """Share of a prompt's computed tokens that are padding, 0 to below 1."""
    return 1 - prompt_tokens / padded_prompt_tokens(buckets, prompt_tokens)


def mean_cache_tokens_read(buckets: Buckets, input_tokens: int, output_tokens: int, running: int = 1) -> float:
    """Cache positions that a decode step reads of each sequence, mean over a service in steady state.

    The graph is that of the longest of `running` sequences, each somewhere between its prompt and its end with even
    chances: the longest is below a share x of the way with probability x ** running.
    """
    reached = [_way(bucket, input_tokens, output_tokens) ** running for bucket in (0, *buckets.cache_tokens)]
    steps = zip(buckets.cache_tokens, pairwise(reached), strict=True)
    return sum(bucket * (above - below) for bucket, (below, above) in steps)


def cache_waste(buckets: Buckets, input_tokens: int, output_tokens: int, running: int = 1) -> float:
    """Share of the cache positions read that hold nothing of the sequence, 0 to below 1."""
    held = input_tokens + (output_tokens + 1) / 2
    return 1 - held / mean_cache_tokens_read(buckets, input_tokens, output_tokens, running)


def _way(bucket: int, input_tokens: int, output_tokens: int) -> float:
    """Share of an answer's tokens that are generated while the sequence fits into the bucket."""
    return min(1.0, max(0.0, (bucket - input_tokens) / output_tokens))


def _lengths(longest: int) -> tuple[int, ...]:
    """NxD's rule: powers of two from 128, then the longest; a power that comes near the longest is left out (its
    logarithm is rounded), so 5,000 follows 2,048 and 6,000 follows 4,096.
    """
    first, end = int(math.log2(SMALLEST_BUCKET_TOKENS)), round(math.log2(longest))
    if longest <= SMALLEST_BUCKET_TOKENS:
        return (longest,)
    return (*(2**power for power in range(first, end)), longest)


def _up_to(smallest: int, largest: int) -> tuple[int, ...]:
    """Powers of two from the smallest that stay below the largest, then the largest."""
    powers: list[int] = []
    size = smallest
    while size < largest:
        powers.append(size)
        size *= 2
    return (*powers, largest)
