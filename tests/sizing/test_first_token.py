"""The time to first token by hand: a prompt alone, a prompt in a compiled bucket, and prompts that wait for others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.sizing.coefficients import TERMS
from llm_fleet.sizing.forecast import Shape, forecast, setup_on
from llm_fleet.sizing.service import Load, bucket, prompt_seconds, prompts_ahead, steady_state
from llm_fleet.sizing.step_time import Work


def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([value])


NOTHING = {name: one(1e-9) for name in (term.name for term in TERMS)}
RATES = {**NOTHING, "compute_share": one(0.5), "sharpness": one(1), "weights_share": one(1), "cache_share": one(1)}
RATES |= {"experts_share": one(1), "expert_compute_share": one(1), "attention_compute_share": one(1)}
RATES |= {"latent_compute_share": one(1), "request_ms": one(10)}
WORK = Work(
    **{
        **dict.fromkeys(Work.__dataclass_fields__, one(0)),
        **dict.fromkeys(("bandwidth", "expert_flops", "attention_flops", "link_bandwidth"), one(1e15)),
        **dict.fromkeys(("tensor_parallel", "expert_shard", "attention_ranks", "stages"), one(1)),
        "flops": one(1e14),
        "dense_flop_per_token": one(1e10),
        "window_tokens": one(1e12),
    }
)
"""10 GFLOP a token at half of 100 TFLOP/s: 0.2 ms a token, 0.2 s for a prompt of 1,000."""
LOAD = Load(
    concurrency=one(4),
    input_tokens=one(1000),
    output_tokens=one(1e6),
    most_running=one(64),
    chunk_tokens=one(1000),
    compiled=one(0),
    compiled_batch=one(0),
    opening=one(1),
    replicas=one(1),
    cache_room_bytes=one(1e15),
    reserved_share=one(0.5),
)
"""Answers so long that a finished request's prompt hardly ever comes beside them."""


def test_alone_a_first_token_takes_the_request_and_its_prompt():
    found = steady_state(WORK, RATES, replace(LOAD, concurrency=one(1)))
    assert found.ttft_s == pytest.approx(0.01 + 0.2, rel=1e-3)


@pytest.mark.parametrize(("tokens", "compiled"), [(1, 128), (128, 128), (129, 256), (1500, 2048), (2048, 2048)])
def test_a_compiled_length_is_the_next_power_of_two(tokens: float, compiled: float):
    assert bucket(one(tokens)) == compiled


def test_a_compiled_prompt_costs_its_whole_bucket():
    load = replace(LOAD, input_tokens=one(1500))
    assert prompt_seconds(WORK, RATES, load) == pytest.approx(1500 * 0.2e-3)
    assert prompt_seconds(WORK, RATES, replace(load, compiled=one(1))) == pytest.approx(2048 * 0.2e-3)


def test_on_neuron_prompts_of_one_bucket_take_the_same_time_and_the_next_bucket_more():
    card, kind = load_models().cards["meta-llama/Llama-3.1-8B"], load_catalog().instance_types["inf2.48xlarge"]
    setup = setup_on(card, "bf16", kind, 8)
    shorter, full, next_bucket = (forecast(setup, Shape(tokens, 200), 1).ttft_ms for tokens in (1100, 2048, 2049))
    assert shorter == pytest.approx(full)
    assert next_bucket > 1.5 * full


@pytest.mark.parametrize(
    ("chunk", "compiled", "ahead"),
    [
        (1000, 0, 1.5),  # one prompt a step: of three others half are earlier
        (2000, 0, 2.0),  # two a step: and half of the one beside it
        (8000, 0, 3.0),  # all four in one step: every first token waits for its end
        (1000, 1, 3.0),  # compiled: the batch is taken together
    ],
)
def test_of_prompts_that_come_at_once_half_are_ahead_and_those_in_the_same_step(
    chunk: float, compiled: float, ahead: float
):
    load = replace(LOAD, chunk_tokens=one(chunk), compiled=one(compiled))
    assert prompts_ahead(load, one(4)) == pytest.approx(ahead)


def test_the_opening_burst_of_a_closed_loop_waits_for_the_prompts_ahead():
    quiet = steady_state(WORK, RATES, replace(LOAD, opening=one(0)))
    # A tenth of the requests are in the burst: each waits 1.5 prompts of 0.2 s more, 0.03 s in the mean of all.
    loop = steady_state(WORK, {**RATES, "opening_share": one(0.1)}, LOAD)
    assert loop.ttft_s - quiet.ttft_s == pytest.approx(0.1 * 1.5 * 0.2)
    assert loop.tpot_s == pytest.approx(quiet.tpot_s)


def test_the_interval_of_a_first_token_is_its_own():
    card, kind = load_models().cards["meta-llama/Llama-3.1-8B"], load_catalog().instance_types["p5.48xlarge"]
    found = forecast(setup_on(card, "bf16", kind, 1), Shape(1000, 200), 8)
    assert found.low_ttft_ms == pytest.approx(found.ttft_ms / found.ttft_width)
    assert found.high_ttft_ms == pytest.approx(found.ttft_ms * found.ttft_width)
    assert found.ttft_width > 1
    assert found.ttft_width != found.width
