"""The serving plan of one instance type: how to split it into replicas, and the largest load that keeps the marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_fleet.catalog.types import Accelerator, Efficiency, Engine, InstanceType
from llm_fleet.models.card import ModelCard
from llm_fleet.sizing import memory
from llm_fleet.sizing.step import Replica, prefill_seconds, step_seconds

MAX_NUM_SEQS = 256
"""vLLM's default for devices below 70 GiB; batches above it rarely keep a latency mark."""
MAX_NUM_BATCHED_TOKENS = 2048
"""vLLM's server default below 70 GiB, and the smoother one for time per output token above it."""
NEURON_MAX_BATCH = 64
"""Largest compiled batch considered; the published Neuron runs go to 32 or 64."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one pool asks of an instance: request shape and the marks."""

    input_tokens: int
    output_tokens: int
    max_model_len_tokens: int
    ttft_mark_ms: float
    tpot_mark_ms: float

    @property
    def sequence_tokens(self) -> int:
        """Tokens of a finished request."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """One split of an instance type and what it does at the largest load within the marks. Rates are of the whole
    instance.
    """

    tensor_parallel: int
    replicas: int
    precision: str
    max_num_seqs: int
    max_num_batched_tokens: int
    memory: memory.DeviceMemory
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

    @property
    def fits(self) -> bool:
        """Whether weights, reserve and at least one full sequence fit on each device."""
        return self.needed_gib <= self.memory.usable_gib


@dataclass(frozen=True, slots=True)
class Hardware:
    """An instance type with what the catalogue knows of its device, its engine and the numbers that sizing needs."""

    instance_type: InstanceType
    accelerator: Accelerator
    engine: Engine
    efficiency: Efficiency
    compute_tflops: float
    """Dense, per whole device, in the format that the engine computes in."""

    @property
    def neuron(self) -> bool:
        """Whether parallelism counts NeuronCores."""
        return self.accelerator.vendor == "neuron"

    @property
    def cores_per_device(self) -> int:
        """Addressable devices per accelerator: NeuronCores, else 1."""
        return self.accelerator.neuron_cores or 1

    @property
    def addressable_devices(self) -> int:
        """Devices that tensor parallel may count."""
        return self.instance_type.devices * self.cores_per_device

    @property
    def usable_gib(self) -> float:
        """Memory of one addressable device."""
        whole = self.accelerator.memory_usable_gib or 0.0
        return whole * self.instance_type.device_fraction / self.cores_per_device


def tensor_parallel_degrees(card: ModelCard, hardware: Hardware) -> tuple[int, ...]:
    """Degrees that the engine accepts, the instance holds, and the model's heads divide by."""
    return tuple(
        degree
        for degree in hardware.engine.tensor_parallel_degrees
        if degree <= hardware.addressable_devices
        and card.attention_heads % degree == 0
        and (card.kv_heads % degree == 0 or degree % card.kv_heads == 0)
    )


def serving_plans(card: ModelCard, precision: str, hardware: Hardware, demand: Demand) -> Iterator[ServingPlan]:
    """A plan for every tensor parallel degree, whether or not it fits or keeps the marks."""
    for degree in tensor_parallel_degrees(card, hardware):
        yield _plan(card, precision, hardware, demand, degree)


def best_plan(plans: tuple[ServingPlan, ...]) -> ServingPlan:
    """The plan with the most requests per second; where none serves, the one that comes nearest.

    Raises:
        ValueError: no plan given.
    """
    return max(
        plans, key=lambda plan: (plan.fits, plan.requests_per_s, -plan.needed_gib, -plan.tpot_ms, -plan.tensor_parallel)
    )


def _replica(card: ModelCard, precision: str, hardware: Hardware, degree: int) -> Replica:
    share = hardware.instance_type.device_fraction / hardware.cores_per_device
    return Replica(
        card=card,
        precision=precision,
        tensor_parallel=degree,
        bandwidth_bytes_per_s=(hardware.accelerator.memory_bandwidth_gb_per_s or 0.0) * 1e9 * share,
        compute_flops_per_s=hardware.compute_tflops * 1e12 * share,
        efficiency=hardware.efficiency,
        weight_bytes=memory.weight_bytes(card, precision),
        expert_bytes=memory.expert_bytes(card, precision),
        kv_bytes_per_token=memory.kv_bytes_per_token(card, degree),
    )


def _plan(card: ModelCard, precision: str, hardware: Hardware, demand: Demand, degree: int) -> ServingPlan:
    stored = "bf16" if hardware.neuron else precision
    replica = _replica(card, stored, hardware, degree)
    if hardware.neuron:
        room = memory.neuron_device_memory(card, hardware.usable_gib, degree, demand.max_model_len_tokens)
    else:
        room = memory.gpu_device_memory(
            card, precision, hardware.usable_gib, degree, MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS
        )
    sequence_gib = memory.cached_tokens(card, demand.max_model_len_tokens) * replica.kv_bytes_per_token / memory.GIB
    needed = room.weights_gib + room.reserve_gib + sequence_gib
    slots = _slots(card, replica, hardware, demand, room)
    chunk = (
        min(MAX_NUM_BATCHED_TOKENS, demand.max_model_len_tokens) if not hardware.neuron else demand.max_model_len_tokens
    )
    unloaded_s = hardware.efficiency.per_request_ms / 1e3 + prefill_seconds(replica, demand.input_tokens, chunk)
    concurrency = _largest_within_marks(replica, demand, unloaded_s, slots) if needed <= room.usable_gib else 0
    step = _steady_step(replica, demand, max(1, concurrency))
    ttft_s = unloaded_s + (step if concurrency > 1 else 0.0)
    replicas = hardware.addressable_devices // degree
    rate = replicas * concurrency / (ttft_s + demand.output_tokens * step)
    return ServingPlan(
        tensor_parallel=degree,
        replicas=replicas,
        precision=precision,
        max_num_seqs=max(1, slots),
        max_num_batched_tokens=max(chunk, slots),
        memory=room,
        needed_gib=needed,
        concurrency=concurrency,
        requests_per_s=rate,
        output_tokens_per_s=rate * demand.output_tokens,
        ttft_ms=ttft_s * 1e3,
        ttft_unloaded_ms=unloaded_s * 1e3,
        tpot_ms=step * 1e3,
    )


def _slots(card: ModelCard, replica: Replica, hardware: Hardware, demand: Demand, room: memory.DeviceMemory) -> int:
    """Sequences whose cache fits: of the request's full length on a paged cache, of the compiled length on a
    static one.
    """
    length = demand.max_model_len_tokens if hardware.engine.static_shapes else demand.sequence_tokens
    per_sequence = memory.cached_tokens(card, length) * replica.kv_bytes_per_token
    fitting = int(max(0.0, room.kv_cache_gib) * memory.GIB // per_sequence) if per_sequence else MAX_NUM_SEQS
    if not hardware.engine.static_shapes:
        return min(MAX_NUM_SEQS, fitting)
    return min(NEURON_MAX_BATCH, 1 << (fitting.bit_length() - 1)) if fitting else 0


def _steady_step(replica: Replica, demand: Demand, concurrency: int) -> float:
    """Mean step with `concurrency` requests in flight: each finished request brings a new prompt, spread over its
    output tokens.
    """
    context = demand.input_tokens + demand.output_tokens / 2
    prefill = concurrency * demand.input_tokens / demand.output_tokens
    return step_seconds(replica, concurrency, context, prefill)


def _largest_within_marks(replica: Replica, demand: Demand, unloaded_s: float, slots: int) -> int:
    """Largest number of requests in flight that keeps both marks; steps only grow with it, so bisection finds it."""

    def keeps(concurrency: int) -> bool:
        step = _steady_step(replica, demand, concurrency)
        waits = step if concurrency > 1 else 0.0
        return step * 1e3 <= demand.tpot_mark_ms and (unloaded_s + waits) * 1e3 <= demand.ttft_mark_ms

    low, high = 0, slots
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle - 1)
    return low
