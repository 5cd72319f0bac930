"""What the planner and `llm-fleet estimate` ask: the service of a configuration, how sure that is, and the largest load
that keeps the marks.

    setup = setup_on(card, "bf16", load_catalog().instance_types["g6e.12xlarge"], tensor_parallel=4)
    found = forecast(setup, Shape(1024, 256), concurrency=16)
    most = goodput(setup, Shape(1024, 256), Marks(ttft_ms=2000, tpot_ms=50), cautious=True)

Setups may be many: forecasts() and goodputs() take lists and cost little more than one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llm_fleet.catalog import InstanceType
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing.case import NEWEST_MINOR, Setup, arrays_of, level_rows, levels, load_of, newer_fives, work_of
from llm_fleet.sizing.coefficient_file import calibration
from llm_fleet.sizing.coefficients import Floats
from llm_fleet.sizing.device import ARCHITECTURES, Device, devices
from llm_fleet.sizing.evidence import Evidence, evidence, evidence_points, width_classes
from llm_fleet.sizing.layout import resolve
from llm_fleet.sizing.reserve import GIB, PLANNED_MINOR, engine_limits
from llm_fleet.sizing.service import Load, Service, at_rate, room_for_sequences, rows_of, steady_state
from llm_fleet.sizing.step_time import Rates, Work
from llm_fleet.sizing.traits import model_traits

LOADS = np.unique(np.rint(1.1 ** np.arange(0, 104)))
"""Requests in flight that a search for the best load tries: every number up to 10, then tenth by tenth to 18,000."""
FULL = 0.995
"""Share of the best rate from which an engine counts as full: more in flight would only wait."""
MODE = "fixed_concurrency"
"""Mode whose width a forecast of a serving pool takes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Mean tokens of a request."""

    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Marks:
    """What a request must keep. Infinity: no mark."""

    ttft_ms: float = math.inf
    tpot_ms: float = math.inf
    end_to_end_ms: float = math.inf


@dataclass(frozen=True, slots=True)
class Forecast:
    """The service of one configuration. Rates are of the whole instance; low and high hold about 80 % of like cases."""

    concurrency: float
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_ms: float
    tpot_ms: float
    width: float
    """Factor of rates and times per token: low is value / width, high is value x width."""
    ttft_width: float
    """The same of the time to first token at up to 4 requests; under load it also depends on how requests come."""
    room: float
    """Requests whose caches fit at once on the whole instance."""
    evidence_points: int
    """Measured points of the same accelerator, engine class and weight format, near in size."""

    @property
    def low_output_tokens_per_s(self) -> float:
        """A rate that about nine in ten like cases exceed."""
        return self.output_tokens_per_s / self.width

    @property
    def high_output_tokens_per_s(self) -> float:
        """A rate that about one in ten like cases exceeds."""
        return self.output_tokens_per_s * self.width

    @property
    def low_ttft_ms(self) -> float:
        """The fast end."""
        return self.ttft_ms / self.ttft_width

    @property
    def high_ttft_ms(self) -> float:
        """The slow end."""
        return self.ttft_ms * self.ttft_width

    @property
    def low_tpot_ms(self) -> float:
        """The fast end."""
        return self.tpot_ms / self.width

    @property
    def high_tpot_ms(self) -> float:
        """The slow end."""
        return self.tpot_ms * self.width


def device_of(kind: InstanceType) -> Device | None:
    """The device of an instance type, or the slice of one that it carries; None where nothing is known of it."""
    whole = devices().get(kind.accelerator)
    if whole is None or kind.device_fraction == 1:
        return whole
    share = kind.device_fraction
    return replace(
        whole,
        memory_gib=whole.memory_gib * share,
        bandwidth_gb_per_s=whole.bandwidth_gb_per_s * share,
        tflops_16=whole.tflops_16 * share,
        tflops_8=whole.tflops_8 * share,
        tops_int8=whole.tops_int8 * share,
        tflops_4=whole.tflops_4 * share,
    )


def setup_on(
    card: ModelCard,
    precision: str,
    kind: InstanceType,
    tensor_parallel: float | None = None,
    kv_bytes_per_element: float = 2.0,
    most_running: float = 0.0,
    devices_used: float | None = None,
) -> Setup:
    """A model on an instance type with the engine that this kit runs there (today's vLLM, on Neuron through NxD).

    `tensor_parallel` counts addressable devices (NeuronCores on Neuron); without it the smallest degree that holds the
    model, and replicas on the rest. Whether it fits is setup.memory.kv_cache_gib > 0: see `refusal`.

    Raises:
        KeyError: an unknown precision, or an accelerator that nothing is known of.
    """
    device = device_of(kind)
    if device is None:
        raise KeyError(kind.accelerator)
    traits = model_traits(card, precision, kv_bytes_per_element)
    engine = "neuron" if device.neuron else "vllm"
    limits = engine_limits(engine, device, minor=PLANNED_MINOR, sequences=most_running)
    count = devices_used or float(kind.devices)
    layout = resolve(traits, device, count, tensor_parallel, None, None, None, limits)
    newer = newer_fives("vllm", f"0.{NEWEST_MINOR}", engine)
    compiled = most_running if device.neuron else 0.0
    return Setup(traits, device, layout, engine, newer, most_running, compiled, PLANNED_MINOR)


def refusal(setup: Setup, shape: Shape) -> str:
    """Why a configuration cannot serve one request of this shape, or an empty text."""
    room = setup.memory.kv_cache_gib
    degree = setup.layout.tensor_parallel
    where = f"{degree:g} x {setup.device.name}{' core' if setup.device.neuron else ''}"
    if room <= 0:
        weights = setup.traits.weight_bytes / GIB
        return f"does not fit: {weights:.1f} GiB of weights on {where}, {-room:.1f} GiB too much on each"
    work, load, _ = _arrays([setup], [shape], [1.0])
    fitting = float(room_for_sequences(work, load)[0])
    if fitting < 1:
        tokens = shape.input_tokens + shape.output_tokens
        return (
            f"does not fit: the cache of one request of {tokens:g} tokens needs {1 / fitting:.1f} times the room left"
        )
    return ""


def forecasts(setups: Sequence[Setup], shapes: Sequence[Shape], concurrency: Sequence[float]) -> list[Forecast]:
    """The service of each setup at its concurrency (nan: everything at once)."""
    work, load, rates = _arrays(setups, shapes, concurrency)
    return _forecasts(setups, steady_state(work, rates, load), load)


def forecast(
    setup: Setup, shape: Shape, concurrency: float | None = None, requests_per_s: float | None = None
) -> Forecast:
    """The service of one setup at a concurrency, at a rate, or (neither given) with everything submitted at once."""
    if requests_per_s is None:
        return forecasts([setup], [shape], [math.nan if concurrency is None else concurrency])[0]
    work, load, rates = _arrays([setup], [shape], [1.0])
    found = at_rate(work, rates, load, np.array([requests_per_s]))
    return _forecasts([setup], found, load)[0]


def goodputs(
    setups: Sequence[Setup], shapes: Sequence[Shape], marks: Sequence[Marks], cautious: Sequence[bool]
) -> list[Forecast | None]:
    """The load of each setup that gives most requests per second and keeps its marks; None where no load does.
    Of loads that give as many (FULL), the smallest.
    Cautious: the marks must hold at the slow end of the interval; the forecast itself stays the typical one.
    """
    work, load, rates = _arrays(setups, shapes, [1.0] * len(setups))
    engines = load.replicas * work.attention_ranks
    most = np.floor(np.minimum(room_for_sequences(work, load), load.most_running / work.attention_ranks)) * engines
    counts = np.minimum(np.searchsorted(LOADS, most, side="right") + 1, len(LOADS))
    starts = np.cumsum(counts) - counts
    places = np.repeat(np.arange(len(setups)), counts)
    loads = np.minimum(LOADS[np.arange(len(places)) - starts[places]], most[places])
    asked = replace(rows_of(load, places), concurrency=np.maximum(loads, 1.0), opening=np.zeros(loads.size))
    found = steady_state(rows_of(work, places), {name: values[places] for name, values in rates.items()}, asked)
    slow, slow_first = (np.where(np.array(cautious, dtype=np.bool_), wide, 1.0)[places] for wide in _widths(setups))
    ttft, tpot = found.ttft_s * 1e3 * slow_first, found.tpot_s * 1e3 * slow
    whole = ttft + tpot * np.maximum(asked.output_tokens - 1, 0)
    limits = [np.array([getattr(mark, name) for mark in marks])[places] for name in Marks.__dataclass_fields__]
    kept = (ttft <= limits[0]) & (tpot <= limits[1]) & (whole <= limits[2]) & (loads >= 1)
    served = np.where(kept, found.requests_per_s, 0.0)
    full = FULL * np.maximum.reduceat(served, starts)[places] if len(setups) else served
    best = [
        start + int(np.argmax((served >= full)[start : start + count]))
        for start, count in zip(starts, counts, strict=True)
    ]
    chosen = _forecasts(setups, rows_of(found, np.array(best, dtype=np.intp)), load)
    return [one if served[place] > 0 else None for one, place in zip(chosen, best, strict=True)]


def goodput(setup: Setup, shape: Shape, marks: Marks, cautious: bool = True) -> Forecast | None:
    """goodputs() of one setup."""
    return goodputs([setup], [shape], [marks], [cautious])[0]


def evidence_of(setup: Setup) -> Evidence:
    """The measured points that a forecast of this setup leans on."""
    return evidence(calibration().evidence, setup, ARCHITECTURES)


def _arrays(setups: Sequence[Setup], shapes: Sequence[Shape], concurrency: Sequence[float]) -> tuple[Work, Load, Rates]:
    columns = arrays_of(setups)
    inputs = np.array([max(shape.input_tokens, 1.0) for shape in shapes])
    outputs = np.array([max(shape.output_tokens, 1.0) for shape in shapes])
    load = load_of(columns, np.array(concurrency, dtype=np.float64), inputs, outputs)
    return work_of(columns), load, calibration().coefficients.rates(level_rows(setups, levels()))


def _widths(setups: Sequence[Setup]) -> tuple[Floats, Floats]:
    """The factor of each setup's interval: of rates and times per token, and of times to first token."""
    known = calibration()
    alike = [evidence_points(known.evidence, setup) for setup in setups]
    rows = width_classes(setups, [MODE] * len(setups), alike)
    return np.exp(known.widths.half(rows)), np.exp(known.ttft_widths.half(rows))


def _forecasts(setups: Sequence[Setup], found: Service, load: Load) -> list[Forecast]:
    counts = calibration().evidence
    widths, ttft_widths = _widths(setups)
    total = (load.input_tokens + load.output_tokens) / load.output_tokens
    return [
        Forecast(
            concurrency=float(found.running[i]),
            requests_per_s=float(found.requests_per_s[i]),
            output_tokens_per_s=float(found.output_tokens_per_s[i]),
            total_tokens_per_s=float(found.output_tokens_per_s[i] * total[i]),
            ttft_ms=float(found.ttft_s[i]) * 1e3,
            tpot_ms=float(found.tpot_s[i]) * 1e3,
            width=float(widths[i]),
            ttft_width=float(ttft_widths[i]),
            room=float(found.room[i]),
            evidence_points=evidence_points(counts, setup),
        )
        for i, setup in enumerate(setups)
    ]
