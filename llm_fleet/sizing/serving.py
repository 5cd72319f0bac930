"""The serving plan of one instance type: how to split it into replicas, and the largest load that keeps the marks.

Every split that the engine accepts is forecast (one engine over all devices, or several smaller ones), and the one that
serves most requests within the marks is the plan. Many types and demands are judged in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llm_fleet.catalog.types import Accelerator, Engine, InstanceType
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing.case import Setup
from llm_fleet.sizing.forecast import Forecast, Marks, Shape, forecasts, goodput, goodputs, setup_on
from llm_fleet.sizing.layout import DeviceMemory
from llm_fleet.sizing.memory import sequence_bytes, sequences_that_fit
from llm_fleet.sizing.neuron_buckets import compiled_buckets, padded_prompt_tokens
from llm_fleet.sizing.reserve import GIB

NEURON_BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Compiled batches considered; the published Neuron runs go to 32 or 64."""
KV_BYTES = {"auto": 2.0, "fp8": 1.0}
"""Bytes of one cached element by the pattern's kv_precision; auto is 16 bit on every engine of the catalogue."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one pool asks of an instance: request shape, context limit, precision of the cache, and the marks."""

    input_tokens: int
    output_tokens: int
    max_model_len_tokens: int
    ttft_mark_ms: float
    tpot_mark_ms: float
    kv_precision: str = "auto"
    cautious: bool = True
    """Whether marks must hold at the slow end of the interval, and capacity is counted by its low end."""

    @property
    def sequence_tokens(self) -> int:
        """Tokens of a finished request."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Hardware:
    """An instance type with what the catalogue knows of its device, and the engine that runs there."""

    instance_type: InstanceType
    accelerator: Accelerator
    engine: Engine

    @property
    def neuron(self) -> bool:
        """Whether parallelism counts NeuronCores."""
        return self.accelerator.vendor == "neuron"

    @property
    def addressable_devices(self) -> int:
        """Devices that tensor parallel may count: NeuronCores on Neuron."""
        return self.instance_type.devices * (self.accelerator.neuron_cores or 1)


@dataclass(frozen=True, slots=True)
class Asked:
    """One model in one format on one type, for one demand."""

    card: ModelCard
    precision: str
    hardware: Hardware
    demand: Demand

    @property
    def key(self) -> tuple[object, ...]:
        """Types with equal devices are alike to the forecast: a larger host changes nothing in it."""
        kind = self.hardware.instance_type
        devices = (kind.accelerator, kind.devices, kind.device_fraction, self.hardware.engine.name)
        return (self.card.name, self.precision, self.demand, *devices)


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """One split of an instance type and what it does at the largest load within the marks. Rates are of the whole
    instance; `low` and `slow` figures stand at the pessimistic end of the interval, about nine in ten are better.
    """

    tensor_parallel: int
    replicas: int
    precision: str
    max_num_seqs: int
    max_num_batched_tokens: int
    memory: DeviceMemory
    needed_gib: float
    """Of each device: weights, reserve and the cache of one sequence of full length."""
    concurrency: int
    """Requests per replica at the largest load within the marks; 0 where one request alone misses a mark."""
    requests_per_s: float
    output_tokens_per_s: float
    ttft_ms: float
    ttft_unloaded_ms: float
    tpot_ms: float
    """At that load; of a single request where concurrency is 0."""
    width: float
    """Factor of the interval of rates and times per token: from value / width to value x width."""
    ttft_width: float
    """The same of the time to first token."""
    caution: float
    """What rates are divided by, and times per token multiplied by, before they are relied on: the width, or 1 where
    the planner is bold."""
    max_model_len_tokens: int
    setup: Setup
    """What was forecast."""

    @property
    def fits(self) -> bool:
        """Whether weights, reserve and at least one full sequence fit on each device."""
        return self.needed_gib <= self.memory.usable_gib

    @property
    def sized_requests_per_s(self) -> float:
        """The rate that capacity is bought by."""
        return self.requests_per_s / self.caution

    @property
    def sized_output_tokens_per_s(self) -> float:
        """The output that costs are counted by."""
        return self.output_tokens_per_s / self.caution

    @property
    def slow_tpot_ms(self) -> float:
        """Time per token that must keep the mark."""
        return self.tpot_ms * self.caution

    @property
    def slow_ttft_unloaded_ms(self) -> float:
        """Time to first token without load that must keep the mark."""
        return self.ttft_unloaded_ms * (self.ttft_width if self.caution > 1 else 1.0)


def tensor_parallel_degrees(card: ModelCard, hardware: Hardware) -> tuple[int, ...]:
    """Degrees that the engine accepts, the instance holds, and the model's heads divide by."""
    return tuple(
        degree
        for degree in hardware.engine.tensor_parallel_degrees
        if degree <= hardware.addressable_devices
        and card.attention_heads % degree == 0
        and (card.kv_heads % degree == 0 or degree % card.kv_heads == 0)
    )


def serving_plans(asked: Sequence[Asked]) -> list[tuple[ServingPlan, ...]]:
    """For each question the best plan of every tensor parallel degree, whether or not it fits or keeps the marks."""
    different = {one.key: one for one in asked}
    candidates = [(key, setup) for key, one in different.items() for setup in _setups(one)]
    demands = [different[key].demand for key, _ in candidates]
    shapes = [_shape(different[key]) for key, _ in candidates]
    alone = forecasts([setup for _, setup in candidates], shapes, [1.0] * len(candidates))
    fitting = [
        place
        for place, ((_, setup), demand) in enumerate(zip(candidates, demands, strict=True))
        if sequences_that_fit(setup, demand.max_model_len_tokens)
    ]
    loaded = goodputs(
        [candidates[place][1] for place in fitting],
        [shapes[place] for place in fitting],
        [Marks(demands[place].ttft_mark_ms, demands[place].tpot_mark_ms) for place in fitting],
        [demands[place].cautious for place in fitting],
    )
    most_of = dict(zip(fitting, loaded, strict=True))
    best: dict[tuple[object, ...], dict[int, ServingPlan]] = {key: {} for key in different}
    for place, ((key, setup), one) in enumerate(zip(candidates, alone, strict=True)):
        plan = _plan(different[key], setup, one, most_of.get(place))
        known = best[key].get(plan.tensor_parallel)
        best[key][plan.tensor_parallel] = best_plan((known, plan)) if known else plan
    return [tuple(best[one.key].values()) for one in asked]


def best_plan(plans: Sequence[ServingPlan]) -> ServingPlan:
    """The plan with the most requests per second; where none serves, the one that comes nearest.

    Raises:
        ValueError: no plan given.
    """
    return max(
        plans,
        key=lambda plan: (
            *(plan.fits, plan.sized_requests_per_s, -plan.needed_gib, -plan.tpot_ms, -plan.tensor_parallel),
            plan.max_num_seqs,
        ),
    )


def slots_within_marks(plan: ServingPlan, demand: Demand) -> int:
    """Sequences that an engine should run at once: as many as keep the marks by the typical prediction, at most what
    memory holds. The rest waits at the gateway, where it counts as backlog. A compiled batch is what it is.
    """
    if plan.setup.compiled_batch:
        return plan.max_num_seqs
    marks = Marks(demand.ttft_mark_ms, demand.tpot_mark_ms)
    most = goodput(plan.setup, Shape(demand.input_tokens, demand.output_tokens), marks, cautious=False)
    return min(plan.max_num_seqs, math.ceil(most.concurrency / plan.replicas)) if most else plan.max_num_seqs


def _shape(asked: Asked) -> Shape:
    """Tokens of a request as they are computed: on compiled shapes a prompt is padded to its bucket."""
    demand, engine = asked.demand, asked.hardware.engine
    if not engine.static_shapes:
        return Shape(demand.input_tokens, demand.output_tokens)
    length = demand.max_model_len_tokens
    buckets = compiled_buckets(engine, length, max_num_seqs=1, max_num_batched_tokens=length)
    return Shape(padded_prompt_tokens(buckets, demand.input_tokens), demand.output_tokens)


def _setups(asked: Asked) -> Iterator[Setup]:
    """Every split, on Neuron with every compiled batch whose caches fit (at least a batch of one)."""
    kind, demand = asked.hardware.instance_type, asked.demand
    for degree in tensor_parallel_degrees(asked.card, asked.hardware):
        setup = setup_on(asked.card, asked.precision, kind, degree, KV_BYTES[demand.kv_precision])
        replicas = float(asked.hardware.addressable_devices // degree)
        setup = replace(setup, layout=replace(setup.layout, replicas=replicas))
        if asked.hardware.engine.static_shapes:
            fitting = sequences_that_fit(setup, demand.max_model_len_tokens)
            for batch in NEURON_BATCHES:
                if batch == 1 or batch <= fitting:
                    yield replace(setup, most_running=float(batch), compiled_batch=float(batch))
        else:
            fitting = sequences_that_fit(setup, demand.sequence_tokens)
            yield replace(setup, most_running=min(setup.limits.sequences, max(1.0, float(fitting))))


def _plan(asked: Asked, setup: Setup, alone: Forecast, most: Forecast | None) -> ServingPlan:
    demand, static = asked.demand, asked.hardware.engine.static_shapes
    room = setup.memory
    needed = room.usable_gib - room.kv_cache_gib + sequence_bytes(setup, demand.max_model_len_tokens) / GIB
    found = most or alone
    replicas, slots = int(setup.layout.replicas), int(setup.most_running)
    chunk = demand.max_model_len_tokens if static else min(int(setup.limits.chunk_tokens), demand.max_model_len_tokens)
    return ServingPlan(
        tensor_parallel=int(setup.layout.tensor_parallel),
        replicas=replicas,
        precision=asked.precision,
        max_num_seqs=slots,
        max_num_batched_tokens=max(chunk, slots),
        memory=room,
        needed_gib=needed,
        concurrency=max(1, int(most.concurrency / replicas)) if most else 0,
        requests_per_s=most.requests_per_s if most else 0.0,
        output_tokens_per_s=most.output_tokens_per_s if most else 0.0,
        ttft_ms=found.ttft_ms,
        ttft_unloaded_ms=alone.ttft_ms,
        tpot_ms=found.tpot_ms,
        width=found.width,
        ttft_width=found.ttft_width,
        caution=found.width if demand.cautious else 1.0,
        max_model_len_tokens=demand.max_model_len_tokens,
        setup=setup,
    )
