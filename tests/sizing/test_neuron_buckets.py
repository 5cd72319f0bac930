"""Compiled shapes of the Neuron engines, and what padding to them costs, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.catalog import load_catalog
from llm_fleet.sizing.neuron_buckets import (
    batch_buckets,
    cache_waste,
    compiled_buckets,
    length_buckets,
    mean_cache_tokens_read,
    padded,
    padded_prompt_tokens,
    prompt_waste,
)

ENGINES = {engine.name: engine for engine in load_catalog().engines}
LENGTHS = st.integers(1, 131_072)


@pytest.mark.parametrize(
    ("longest", "lengths"),
    [
        (100, (100,)),
        (128, (128,)),
        (150, (150,)),  # log2 is 7.2, rounds to 7: nothing below 2 ** 7
        (2048, (128, 256, 512, 1024, 2048)),
        (5000, (128, 256, 512, 1024, 2048, 5000)),  # log2 is 12.29, rounds to 12: 2 ** 11 is the last power
        (6000, (128, 256, 512, 1024, 2048, 4096, 6000)),  # 12.55, rounds to 13
    ],
)
def test_lengths_are_powers_of_two_and_the_longest(longest: int, lengths: tuple[int, ...]):
    assert length_buckets(longest, 4).context_tokens == lengths


def test_inferentia2_compiles_lengths_of_prompt_and_of_cache_at_one_batch():
    found = compiled_buckets(ENGINES["vllm-neuron-inf2"], 4096, 16, 4096)
    assert found.batches == (16,)
    assert found.cache_tokens == (128, 256, 512, 1024, 2048, 4096)
    assert found.graphs == 6 + 6


def test_trainium2_compiles_batches_at_the_full_length_of_the_cache():
    found = compiled_buckets(ENGINES["vllm-neuron-trn2"], 8192, 12, 2048)
    assert found.context_tokens == (128, 256, 512, 1024, 2048)
    assert found.cache_tokens == (8192,)
    assert found.batches == (1, 2, 4, 8, 12)
    assert found.graphs == 5 + 5


def test_a_prompt_is_computed_at_the_length_of_its_bucket():
    buckets = length_buckets(4096, 4)
    assert padded_prompt_tokens(buckets, 1100) == 2048
    assert prompt_waste(buckets, 1024) == 0
    assert prompt_waste(buckets, 1536) == pytest.approx(512 / 2048)


def test_a_long_prompt_on_trainium2_goes_in_segments():
    assert padded_prompt_tokens(batch_buckets(8192, 4, 2048), 5000) == 2048 + 2048 + 1024  # 904 are left for the last
    assert padded_prompt_tokens(batch_buckets(8192, 4, 2048), 4096) == 4096


def test_what_no_bucket_holds_is_refused():
    with pytest.raises(ValueError, match="5000 is above the largest bucket, 4096"):
        padded(5000, (2048, 4096))


def test_one_sequence_reads_the_bucket_that_it_is_in():
    # 768 to 1280: 256 of 512 tokens in the bucket of 1024, 256 in that of 2048.
    assert mean_cache_tokens_read(length_buckets(4096, 1), 768, 512) == pytest.approx(0.5 * 1024 + 0.5 * 2048)


def test_many_sequences_read_the_bucket_of_the_longest():
    # All four are in the first half with probability 1/16.
    found = mean_cache_tokens_read(length_buckets(4096, 4), 768, 512, running=4)
    assert found == pytest.approx(1024 / 16 + 2048 * 15 / 16)


def test_cache_waste_is_what_is_read_beyond_the_sequence():
    # On average 768 + 256.5 positions are held, 1536 are read.
    assert cache_waste(length_buckets(4096, 1), 768, 512) == pytest.approx(1 - 1024.5 / 1536)


@given(longest=LENGTHS, prompt=LENGTHS)
def test_a_prompt_is_never_cut_nor_padded_to_three_times_itself_above_the_smallest_bucket(longest: int, prompt: int):
    buckets = length_buckets(longest, 8)
    prompt = min(prompt, longest)
    found = padded_prompt_tokens(buckets, prompt)
    # The longest follows a power of two by at most 2 ** 1.5: rounding leaves out the power next to it.
    assert prompt <= found <= max(2**1.5 * prompt, min(longest, 2**0.5 * 128))


@given(longest=LENGTHS, given_tokens=LENGTHS, output=LENGTHS, running=st.integers(1, 64))
def test_the_cache_read_lies_between_the_sequences_own_length_and_the_longest(
    longest: int, given_tokens: int, output: int, running: int
):
    longest = max(longest, 2)
    output = min(output, longest - 1)
    given_tokens = min(given_tokens, longest - output)
    buckets = length_buckets(longest, running)
    alone = mean_cache_tokens_read(buckets, given_tokens, output)
    together = mean_cache_tokens_read(buckets, given_tokens, output, running)
    assert given_tokens + output / 2 <= alone + 1e-6
    assert alone <= together + 1e-6
    assert together <= longest + 1e-6


@given(longest=LENGTHS, batch=st.integers(1, 256))
def test_more_length_or_batch_never_compiles_fewer_graphs(longest: int, batch: int):
    assert length_buckets(2 * longest, batch).graphs >= length_buckets(longest, batch).graphs
    assert batch_buckets(longest, 2 * batch, 4096).graphs >= batch_buckets(longest, batch, 4096).graphs
