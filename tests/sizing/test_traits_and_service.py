"""Counts of a model against published sizes, layouts, and the steady state of a service by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.sizing.case import Setup, arrays_of, load_of, work_of
from llm_fleet.sizing.forecast import Shape, forecast, refusal, setup_on
from llm_fleet.sizing.service import room_for_sequences
from llm_fleet.sizing.traits import model_traits


def traits(name: str, precision: str, kv_bytes: float = 2.0):
    return model_traits(load_models().cards[name], precision, kv_bytes)


@pytest.mark.parametrize(
    ("name", "kibibytes"),
    [("meta-llama/Llama-2-7b-hf", 512), ("meta-llama/Llama-3.1-8B", 128), ("openai/gpt-oss-120b", 72)],
)
def test_the_cache_of_a_token_is_counted_by_layers_and_heads(name: str, kibibytes: float):
    assert traits(name, "bf16").kv_bytes_per_token / 1024 == pytest.approx(kibibytes)


def test_a_tied_table_is_stored_once():
    tied = traits("Qwen/Qwen3-0.6B", "bf16")
    assert tied.table_bytes == 0
    assert tied.weight_bytes == pytest.approx(2 * load_models().cards["Qwen/Qwen3-0.6B"].params_total_billion * 1e9)


def test_cached_heads_are_split_over_devices_and_a_compressed_cache_is_copied():
    kind = load_catalog().instance_types["p5.48xlarge"]
    shape = Shape(1000, 1000)
    split = [
        forecast(setup_on(load_models().cards["meta-llama/Llama-3.1-8B"], "bf16", kind, tp), shape, 1) for tp in (4, 8)
    ]
    # Eight heads: four devices hold two each, eight hold one: about the same room on the instance.
    assert split[1].room == pytest.approx(split[0].room, rel=0.05)


def test_a_slice_of_a_device_has_its_share_of_memory():
    kind = load_catalog().instance_types["g6f.xlarge"]
    card = load_models().cards["Qwen/Qwen3-0.6B"]
    assert setup_on(card, "bf16", kind).device.memory_gib == pytest.approx(22.49 * kind.device_fraction)


def test_a_model_that_does_not_fit_names_what_is_missing():
    kind = load_catalog().instance_types["g6.xlarge"]
    setup = setup_on(load_models().cards["meta-llama/Llama-3.1-70B"], "bf16", kind)
    assert "too much on each" in refusal(setup, Shape(1000, 100))


def test_a_context_that_does_not_fit_names_how_far_it_is_off():
    kind = load_catalog().instance_types["g6.xlarge"]
    setup = setup_on(load_models().cards["meta-llama/Llama-3.1-8B"], "bf16", kind)
    assert "times the room left" in refusal(setup, Shape(100_000, 1000))


@pytest.mark.parametrize(
    ("engine", "sequences"),
    [
        ("vllm", 1200 / 307.5),  # 100 tokens in, half of 400 out: 300 tokens of 1 kB, of 1.2 MB
        ("trtllm", 1200 / 507.5),  # nothing is ever evicted: all 500 tokens must have room
        ("tgi", 1200 / 507.5),
        ("neuron", 1200 / 507.5),
    ],
)
def test_an_engine_that_never_evicts_takes_in_what_has_room_for_its_whole_answer(engine: str, sequences: float):
    """1 kB a token, half an answer or a whole one beside the prompt, and on average half a block of 16 is empty."""
    columns = arrays_of([replace(setup(), engine=engine)])
    columns |= {"cache_room_bytes": np.array([1.2e6]), "cache_bytes_per_token": np.array([1e3])}
    load = load_of(columns, np.array([np.nan]), np.array([100.0]), np.array([400.0]))
    assert room_for_sequences(work_of(columns), load) == pytest.approx(sequences)


def setup() -> Setup:
    kind = load_catalog().instance_types["g6e.xlarge"]
    return setup_on(load_models().cards["meta-llama/Llama-3.1-8B"], "bf16", kind, 1)


def test_one_stream_yields_an_answer_per_time_to_first_token_and_its_tokens():
    found = forecast(setup(), Shape(1000, 200), 1)
    # First token, then 200 steps: the rate of one stream is output over both.
    assert found.output_tokens_per_s == pytest.approx(200e3 / (found.ttft_ms + 200 * found.tpot_ms), rel=0.01)


def test_a_rate_needs_the_requests_in_flight_that_its_latency_holds():
    found = forecast(setup(), Shape(1000, 200), requests_per_s=0.5)
    assert found.requests_per_s == pytest.approx(0.5)
    # Little: in flight = rate x latency.
    assert found.concurrency == pytest.approx(max(1.0, 0.5 * (found.ttft_ms + 200 * found.tpot_ms) / 1e3), rel=0.3)


def test_two_replicas_serve_twice_as_much():
    card, types = load_models().cards["meta-llama/Llama-3.1-8B"], load_catalog().instance_types
    one = forecast(setup_on(card, "bf16", types["g6e.xlarge"], 1), Shape(1000, 200), 8)
    four = forecast(setup_on(card, "bf16", types["g6e.12xlarge"], 1), Shape(1000, 200), 32)
    assert four.output_tokens_per_s == pytest.approx(4 * one.output_tokens_per_s)


def test_an_accelerator_without_points_is_wider_than_its_kin():
    card, types = load_models().cards["Qwen/Qwen3-32B"], load_catalog().instance_types
    known = forecast(setup_on(card, "bf16", types["g6e.12xlarge"], 4), Shape(1000, 200), 8)
    new = forecast(setup_on(card, "bf16", types["g6.12xlarge"], 4), Shape(1000, 200), 8)
    assert new.evidence_points == 0
    assert new.width > known.width
