"""What must hold for every model, device and load, whatever the coefficients."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_fleet.models import load_models
from llm_fleet.sizing.case import Setup
from llm_fleet.sizing.device import devices
from llm_fleet.sizing.forecast import Forecast, Marks, Shape, forecast, goodput
from llm_fleet.sizing.layout import Layout
from llm_fleet.sizing.traits import model_traits

CARDS = (
    "Qwen/Qwen3-0.6B",
    "meta-llama/Llama-3.1-8B",
    "openai/gpt-oss-20b",
    "meta-llama/Llama-3.1-70B",
    "Qwen/Qwen3.5-4B",
)
DEVICES = ("T4", "L4", "L40S", "A100-80", "H200", "B200", "Inferentia2", "Trainium2")
ROUNDING = 1 + 1e-9
SATURATED = 1.01
"""Of two loads that fill an engine, either may be called the best: their rates differ by less than this."""
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    card = load_models().cards[draw(st.sampled_from(CARDS))]
    precision = draw(st.sampled_from(("bf16", "fp8", "int4")))
    device = devices()[draw(st.sampled_from(DEVICES))]
    layout = Layout(draw(st.sampled_from((1.0, 2.0, 4.0, 8.0))), 1.0, 1.0, 1.0, float(device.cores))
    return Setup(model_traits(card, precision), device, layout, "neuron" if device.neuron else "vllm")


shapes = st.builds(Shape, st.integers(1, 8000), st.integers(1, 2000))
loads = st.integers(1, 300)


def at(setup: Setup, shape: Shape, concurrency: float) -> Forecast:
    return forecast(setup, shape, concurrency)


@FEW
@given(setups(), shapes, loads, st.floats(1.0, 4.0))
def test_more_bandwidth_is_never_slower(setup: Setup, shape: Shape, load: int, factor: float):
    wider = replace(setup.device, bandwidth_gb_per_s=setup.device.bandwidth_gb_per_s * factor)
    before, after = at(setup, shape, load), at(replace(setup, device=wider), shape, load)
    assert after.output_tokens_per_s * ROUNDING >= before.output_tokens_per_s


@FEW
@given(setups(), shapes, st.floats(1.0, 4.0))
def test_more_memory_never_lowers_concurrency(setup: Setup, shape: Shape, factor: float):
    larger = replace(setup.device, memory_gib=setup.device.memory_gib * factor)
    before, after = at(setup, shape, math.nan), at(replace(setup, device=larger), shape, math.nan)
    assert after.room >= before.room
    assert after.concurrency >= before.concurrency


@FEW
@given(setups(), shapes, loads)
def test_halving_the_bytes_never_lowers_throughput(setup: Setup, shape: Shape, load: int):
    whole = setup.traits
    half = replace(
        whole,
        dense_bytes=whole.dense_bytes / 2,
        expert_bytes=whole.expert_bytes / 2,
        table_bytes=whole.table_bytes / 2,
        kv_bytes_per_token=whole.kv_bytes_per_token / 2,
    )
    held = max(1, min(load, int(at(setup, shape, 1).room)))
    before, after = at(setup, shape, held), at(replace(setup, traits=half), shape, held)
    assert after.output_tokens_per_s * ROUNDING >= before.output_tokens_per_s


@FEW
@given(setups(), shapes, st.floats(1.0, 5000.0), st.floats(1.0, 500.0))
def test_goodput_never_exceeds_throughput(setup: Setup, shape: Shape, ttft_ms: float, tpot_ms: float):
    found, most = goodput(setup, shape, Marks(ttft_ms, tpot_ms)), goodput(setup, shape, Marks())
    if found is not None:
        assert most is not None
        assert found.requests_per_s <= most.requests_per_s * SATURATED
        assert found.requests_per_s <= at(setup, shape, found.concurrency).requests_per_s * ROUNDING


@FEW
@given(setups(), shapes, st.floats(1.0, 5000.0), st.floats(1.0, 500.0))
def test_caution_never_allows_more(setup: Setup, shape: Shape, ttft_ms: float, tpot_ms: float):
    cautious = goodput(setup, shape, Marks(ttft_ms, tpot_ms), cautious=True)
    bold = goodput(setup, shape, Marks(ttft_ms, tpot_ms), cautious=False)
    assert cautious is None or (bold is not None and bold.requests_per_s * SATURATED >= cautious.requests_per_s)


@FEW
@given(setups(), shapes, loads)
def test_every_figure_lies_in_its_interval_and_is_a_number(setup: Setup, shape: Shape, load: int):
    found = at(setup, shape, load)
    assert 0 < found.low_output_tokens_per_s <= found.output_tokens_per_s <= found.high_output_tokens_per_s < math.inf
    assert 0 < found.low_tpot_ms <= found.tpot_ms <= found.high_tpot_ms < math.inf
    assert 0 < found.low_ttft_ms <= found.ttft_ms <= found.high_ttft_ms < math.inf
