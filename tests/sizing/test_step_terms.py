"""Each term of the step by hand: round numbers, the arithmetic beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm_fleet.sizing.coefficients import TERMS
from llm_fleet.sizing.step_time import (
    Work,
    all_reduce_seconds,
    cache_seconds,
    experts_touched,
    fixed_seconds,
    kept_tokens,
    prompt_attention_seconds,
    step_seconds,
    weights_seconds,
)


def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([value])


NONE = one(0.0)
PLAIN = {
    **dict.fromkeys(Work.__dataclass_fields__, NONE),
    "bandwidth": one(1e12),
    "flops": one(1e14),
    "expert_flops": one(1e14),
    "attention_flops": one(1e14),
    "link_bandwidth": one(1e11),
    "tensor_parallel": one(1),
    "expert_shard": one(1),
    "attention_ranks": one(1),
    "stages": one(1),
    "window_tokens": one(1e12),
}
RATES = {
    **{term.name: NONE for term in TERMS},
    **{term.name: one(0.5) for term in TERMS if term.kind == "share"},
    "sharpness": one(1.0),
    "expert_skew": one(1.0),
}


def work(**numbers: float) -> Work:
    return Work(**{**PLAIN, **{name: one(value) for name, value in numbers.items()}})


def rates(**numbers: float) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return {**RATES, **{name: one(value) for name, value in numbers.items()}}


def test_weights_are_read_at_a_share_of_the_bandwidth():
    # 10 GB at half of 1,000 GB/s: 20 ms.
    found = weights_seconds(work(dense_bytes=10e9), rates(), one(1), one(1))
    assert found == pytest.approx(0.020)


def test_multiplying_takes_over_in_large_batches_and_overlaps_with_reading():
    # 100 tokens x 10 GFLOP at half of 100 TFLOP/s: 20 ms; with 20 ms of reading, the norm of order 2 is 20 x sqrt(2).
    heavy = work(dense_bytes=10e9, dense_flop_per_token=1e10)
    assert weights_seconds(heavy, rates(), one(100), one(100)) == pytest.approx(0.020 * 2**0.5)


def test_the_head_is_multiplied_for_sampled_tokens_only():
    # 4 of 100 tokens are sampled: 4 x 10 GFLOP at 50 TFLOP/s is 0.8 ms.
    assert weights_seconds(work(head_flop_per_sequence=1e10), rates(), one(100), one(4)) == pytest.approx(0.0008)


def test_a_step_touches_the_experts_that_its_tokens_choose():
    # 8 of 128 experts a token: 1 - (1 - 1/16)^32 = 0.8732 of them at 32 tokens.
    sparse = work(expert_miss=1 - 8 / 128)
    assert experts_touched(sparse, rates(), one(32)) == pytest.approx(0.8732, abs=1e-4)
    # Two attention ranks of 16 sequences send their tokens to the same experts.
    assert experts_touched(replace(sparse, attention_ranks=one(2)), rates(), one(16)) == pytest.approx(0.8732, abs=1e-4)


def test_only_touched_experts_are_read():
    # Half of 2 experts at one token: 8 GB x 0.5 at 500 GB/s is 8 ms.
    found = weights_seconds(work(expert_bytes=8e9, expert_miss=0.5), rates(), one(1), one(1))
    assert found == pytest.approx(0.008)


def test_the_cache_of_every_sequence_is_read():
    # 10 sequences x 1,000 tokens x 100 kB = 1 GB, at 500 GB/s: 2 ms.
    assert cache_seconds(work(cache_bytes_per_token=1e5), rates(), one(10), one(1000)) == pytest.approx(0.002)


def test_windowed_layers_keep_their_window():
    # Half of the layers keep 128 tokens of 1,024: (1,024 + 128) / 2 = 576.
    assert kept_tokens(work(window_tokens=128, window_share=0.5), one(1024)) == pytest.approx(576)


def test_a_compressed_cache_costs_multiplications_where_they_take_longer():
    # Reading 2 ms as above; 10 x 1,000 pairs x 50 MFLOP at 50 TFLOP/s is 10 ms.
    latent = work(cache_bytes_per_token=1e5, latent_flop_per_pair=5e7)
    assert cache_seconds(latent, rates(), one(10), one(1000)) == pytest.approx(0.010)


def test_a_state_is_read_and_written_whatever_the_context():
    # 10 sequences x 50 MB x 2 at 500 GB/s: 2 ms.
    assert cache_seconds(work(state_bytes=5e7), rates(), one(10), one(5)) == pytest.approx(0.002)


def test_prompt_attention_grows_with_the_tokens_before():
    # 1,000 tokens over a mean of 500 earlier ones, 1 MFLOP a pair: 0.5 TFLOP at 50 TFLOP/s is 10 ms.
    found = prompt_attention_seconds(work(attention_flop_per_pair=1e6), rates(), one(1000), one(500))
    assert found == pytest.approx(0.010)


def test_an_all_reduce_has_a_floor_and_a_bandwidth():
    # 4 devices, 10 layers, 2 all-reduces each: floor 10 us x (1 + 0.5 x 2) = 20 us; 100 tokens x 1,000 x 2 bytes x
    # 2 x 3/4 = 300 kB at 50 GB/s = 6 us; 20 x 26 us = 520 us.
    over = work(tensor_parallel=4, expert_shard=4, layers=10, hidden=1000)
    found = all_reduce_seconds(over, rates(all_reduce_us=10, all_reduce_growth=0.5), one(100))
    assert found == pytest.approx(520e-6)


def test_pcie_loses_bandwidth_as_more_devices_share_it():
    # As above with contention of power 1: (4 / 2)^1 halves the bandwidth, 12 us in place of 6; 20 x 32 us = 640 us.
    over = work(tensor_parallel=4, expert_shard=4, layers=10, hidden=1000, over_bus=1)
    given = rates(all_reduce_us=10, all_reduce_growth=0.5, bus_contention=1)
    assert all_reduce_seconds(over, given, one(100)) == pytest.approx(640e-6)


def test_one_device_sends_nothing():
    assert all_reduce_seconds(work(layers=10, hidden=1000), rates(all_reduce_us=10), one(100)) == 0


def test_layers_cost_something_before_they_do_anything():
    # 40 layers x (10 + 20 experts) + 40 x 5 latent + 10 x 30 linear-attention = 1,700 us.
    many = work(layers=40, moe_layers=40, latent_layers=40, state_layers=10)
    given = rates(layer_us=10, moe_layer_us=20, latent_layer_us=5, state_layer_us=30)
    assert fixed_seconds(many, given) == pytest.approx(1700e-6)


def test_newer_versions_cost_less_a_layer():
    # Two fives of minor versions at 10 % each: exp(-0.2).
    found = fixed_seconds(work(layers=100, newer=2), rates(layer_us=10, yearly_gain=0.1))
    assert found == pytest.approx(1e-3 * np.exp(-0.2))


def test_sequences_and_steps_have_their_own_cost():
    # 16 x 5 us + 200 us.
    assert step_seconds(work(), rates(sequence_us=5, step_us=200), one(16), NONE, NONE, NONE) == pytest.approx(280e-6)


def test_pipeline_stages_follow_one_another():
    # 10 GB a stage, two stages: 2 x 20 ms.
    found = step_seconds(work(dense_bytes=10e9, stages=2), rates(), one(1), NONE, NONE, NONE)
    assert found == pytest.approx(0.040)
