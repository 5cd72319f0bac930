"""From points to setups: which card, format, engine class and layout a row means, or why it cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from llm_fleet.calibration.points import Point
from llm_fleet.errors import nearest_of
from llm_fleet.models import load_models
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing.case import Setup, arrays_of, engine_class, level_rows, levels, load_of, newer_fives, work_of
from llm_fleet.sizing.coefficients import Floats, Integers
from llm_fleet.sizing.device import Device, devices
from llm_fleet.sizing.layout import Layout, cache_room_bytes, resolve
from llm_fleet.sizing.reserve import GIB, EngineLimits, engine_limits
from llm_fleet.sizing.service import Load
from llm_fleet.sizing.step_time import Work
from llm_fleet.sizing.traits import BITS_PER_WEIGHT, ModelTraits, generic_card, model_traits

DEFAULT_INPUT_TOKENS = 512.0
DEFAULT_OUTPUT_TOKENS = 256.0
"""Where a row does not say its lengths."""
USUAL_CORES = 8.0
"""NeuronCores of one engine, at least, where nobody says: no row that states its degree and has as many takes fewer for
a model of seven billion parameters and more, however small the degree that would hold it."""
COMPILED_PROMPT_SHARE = 1 / 8
"""Where a row states a compiled length and no other: a short prompt, and an answer until the length is full."""
KV_BYTES = {"fp8": 1.0, "int8": 1.0, "q8_0": 1.06, "int4": 0.5, "q4_0": 0.56, "fp32": 4.0}


@dataclass(slots=True)
class Resolver:
    """Finds setups for points, remembering what it found."""

    _cards: dict[tuple[str, str, float | None, float | None], ModelCard | str] = field(default_factory=lambda: {})
    _traits: dict[tuple[str, str, float], ModelTraits] = field(default_factory=lambda: {})
    _setups: dict[tuple[object, ...], Setup | str] = field(default_factory=lambda: {})

    def setup(self, point: Point) -> Setup | str:
        """The setup of a point, or the reason why there is none."""
        key = (
            *(point.model, point.model_card, point.params_billion, point.precision, point.precision_kv),
            *(point.accelerator, point.count, point.tensor_parallel, point.pipeline_parallel),
            *(point.expert_parallel, point.data_parallel, point.engine, point.engine_version, point.date),
            *(point.most_running, point.active_billion),
        )
        if key not in self._setups:
            self._setups[key] = self._find(point)
        return self._setups[key]

    def _find(self, point: Point) -> Setup | str:
        device = devices().get(point.accelerator)
        if device is None:
            near = nearest_of(point.accelerator, devices())
            return f"unknown accelerator {point.accelerator!r}" + (f"; did you mean {near}?" if near else "")
        card = self.card(point)
        if isinstance(card, str):
            return card
        kind = engine_class(point.engine, point.engine_version, point.date, device.neuron)
        precision = point.precision or _usual_precision(point, card, device)
        if precision not in BITS_PER_WEIGHT:
            return f"unknown precision {precision!r}; known: {', '.join(sorted(BITS_PER_WEIGHT))}"
        traits = self.traits(card, precision, _kv_bytes(point, precision, kind))
        newer = newer_fives(point.engine, point.engine_version, kind)
        limits = engine_limits(kind, device, newer, sequences=point.most_running or 0.0)
        layout = resolve(
            *(traits, device, point.count, point.tensor_parallel, point.pipeline_parallel),
            *(point.data_parallel, point.expert_parallel, limits),
        )
        if device.neuron and not point.tensor_parallel and layout.tensor_parallel < USUAL_CORES:
            usual = min(USUAL_CORES, point.count * device.cores)
            layout = resolve(traits, device, point.count, usual, None, point.data_parallel, None, limits)
        if not _holds(traits, device, layout, limits):
            # Counts of parallelism that cannot hold the model mean something else: take the smallest degree that can.
            layout = resolve(traits, device, point.count, None, None, None, None, limits)
        if not _holds(traits, device, layout, limits):
            each = traits.weight_bytes / GIB
            return f"does not fit: {each:.0f} GiB of weights on {point.count:g} x {device.memory_gib:.0f} GiB"
        return Setup(
            traits=traits,
            device=device,
            layout=layout,
            engine=kind,
            newer=newer,
            most_running=point.most_running or 0.0,
            compiled_batch=(point.most_running or 0.0) if device.neuron else 0.0,
        )

    def card(self, point: Point) -> ModelCard | str:
        """The card of a point's model: by its card's name, by its own name, or a generic shape of its size."""
        key = (point.model_card, point.model, point.params_billion, point.active_billion)
        if key not in self._cards:
            self._cards[key] = self._card(*key)
        return self._cards[key]

    def _card(self, card: str, model: str, params_billion: float | None, active: float | None) -> ModelCard | str:
        library = load_models()
        for name in (card, model):
            found = library.names.get(name.strip().casefold()) if name else None
            if found:
                return found.card
        if not params_billion:
            return f"unknown model {model!r} and no params_billion to take a generic shape from"
        template = library.cards["meta-llama/Llama-2-7b-hf"]
        return generic_card(model, params_billion, template, active)

    def traits(self, card: ModelCard, precision: str, kv_bytes: float) -> ModelTraits:
        """Counts of a card in a format."""
        key = (f"{card.name} {card.params_total_billion}", precision, kv_bytes)
        if key not in self._traits:
            self._traits[key] = model_traits(card, precision, kv_bytes)
        return self._traits[key]


OVERFULL = 0.25
"""Share of a device by which weights and reserve may pass its memory: reserves and counts are not exact."""


def _holds(traits: ModelTraits, device: Device, layout: Layout, limits: EngineLimits) -> bool:
    return (
        cache_room_bytes(traits, device, layout, limits) > -OVERFULL * device.memory_gib * GIB / layout.cores_per_device
    )


def _usual_precision(point: Point, card: ModelCard, device: Device) -> str:
    """Where a row does not say: its checkpoint's own format; results without an engine are benchmark submissions, which
    use the smallest floating format that the device computes in.
    """
    if not point.engine and device.tflops_8 > device.tflops_16:
        return "nvfp4" if device.architecture.startswith("blackwell") else "fp8"
    return card.native_precision if card.native_precision in BITS_PER_WEIGHT else "bf16"


def _kv_bytes(point: Point, precision: str, kind: str) -> float:
    if point.precision_kv:
        return KV_BYTES.get(point.precision_kv, 2.0)
    if precision == "w4a8-kv4":
        return 0.5
    return 1.0 if kind.startswith("trtllm") and precision in ("fp8", "nvfp4") else 2.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Many points as arrays, ready to be predicted."""

    indices: tuple[int, ...]
    """Places in the list that was given."""
    setups: tuple[Setup, ...]
    """Different setups."""
    setup_of: Integers
    """Each row's place in `setups`."""
    work: Work
    load: Load
    levels: dict[str, Integers]
    rates_per_s: Floats
    """Arrival rate; nan where the row has none."""
    latency_per_token: Floats
    """1 where the source's time per token is the whole request's over its tokens."""

    def row_setups(self) -> list[Setup]:
        """The setup of each row."""
        places = cast("list[int]", self.setup_of.tolist())
        return [self.setups[place] for place in places]


def batch_of(points: Sequence[Point | None], resolver: Resolver) -> tuple[Batch, dict[int, str]]:
    """The points that can be predicted, and for the others, by place, why not."""
    reasons: dict[int, str] = {}
    unique: dict[int, int] = {}
    setups: list[Setup] = []
    indices: list[int] = []
    setup_of: list[int] = []
    asked: list[tuple[float, float, float, float]] = []
    latency: list[bool] = []
    for index, point in enumerate(points):
        if point is None:
            continue
        setup = resolver.setup(point)
        if isinstance(setup, str):
            reasons[index] = setup
            continue
        lengths = _asked(point)
        if isinstance(lengths, str):
            reasons[index] = lengths
            continue
        if id(setup) not in unique:
            unique[id(setup)] = len(setups)
            setups.append(setup)
        indices.append(index)
        setup_of.append(unique[id(setup)])
        asked.append(lengths)
        latency.append(point.tpot_is_latency)
    places = np.array(setup_of, dtype=np.int64)
    columns = {name: values[places] for name, values in arrays_of(setups).items()}
    wanted = np.array(asked, dtype=np.float64).reshape(len(asked), 4)
    rows = {factor: values[places] for factor, values in level_rows(setups, levels()).items()}
    load = load_of(columns, wanted[:, 0], wanted[:, 1], wanted[:, 2])
    batch = Batch(
        tuple(indices),
        tuple(setups),
        places,
        work_of(columns),
        load,
        rows,
        wanted[:, 3],
        np.array(latency, dtype=np.float64),
    )
    return batch, reasons


def _asked(point: Point) -> tuple[float, float, float, float] | str:
    """Concurrency (nan: all at once), input and output tokens, rate (nan: none)."""
    outputs = point.output_tokens
    inputs = point.input_tokens
    if point.compiled_tokens and inputs is None and outputs is None:
        inputs = point.compiled_tokens * COMPILED_PROMPT_SHARE
        outputs = point.compiled_tokens - inputs
    inputs = DEFAULT_INPUT_TOKENS if inputs is None else max(inputs, 1.0)
    outputs = DEFAULT_OUTPUT_TOKENS if outputs is None else outputs
    if outputs == 0:
        return "no output tokens: a prompt alone has no throughput of answers"
    rate = np.nan
    concurrency = point.concurrency
    if point.mode == "single_stream":
        concurrency = concurrency or 1.0
    elif point.mode in ("online_rate", "server_scenario") and point.rate_per_s:
        rate, concurrency = point.rate_per_s, 1.0
    elif concurrency is None and point.mode == "fixed_concurrency":
        return "no batch_or_concurrency: how many requests run at once is not known"
    return (np.nan if concurrency is None else concurrency), inputs, outputs, rate
