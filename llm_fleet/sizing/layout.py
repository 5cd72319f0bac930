"""How a model is split over the devices of an instance: tensor, pipeline, data and expert parallel, and replicas."""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.sizing.device import Device
from llm_fleet.sizing.reserve import (
    CUDA_CONTEXT_GIB,
    GIB,
    NEURON_RUNTIME_GIB,
    NON_TORCH_GIB,
    EngineLimits,
    activation_bytes,
    graph_bytes,
    planned_limits,
)
from llm_fleet.sizing.traits import ModelTraits

CACHE_SHARE = 0.08
"""Of a device's memory: the cache that a model needs beside its weights to be held in earnest."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One split. A replica is one engine: `devices` = tensor x pipeline x attention ranks."""

    tensor_parallel: float
    pipeline_parallel: float
    attention_ranks: float
    """Attention data parallel within one engine: each rank holds dense weights and its own sequences, while the experts
    are split over all ranks. 1 without it."""
    replicas: float
    """Independent engines."""
    cores_per_device: float

    @property
    def expert_shard(self) -> float:
        """Devices of one pipeline stage that share the experts."""
        return self.tensor_parallel * self.attention_ranks


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Where the memory of one addressable device goes, in GiB: the parts add up to `usable_gib`."""

    usable_gib: float
    """As the driver reports it."""
    weights_gib: float
    activations_gib: float
    graphs_gib: float
    non_torch_gib: float
    """Context and communication buffers; on Neuron the runtime and compiled code."""
    utilisation_gib: float
    """What the engine's share of the device leaves unused, less graphs that come out of it."""
    kv_cache_gib: float
    """Negative where the rest does not fit."""

    @property
    def reserve_gib(self) -> float:
        """All that is neither weights nor cache."""
        return self.usable_gib - self.weights_gib - self.kv_cache_gib


def rank_weight_bytes(traits: ModelTraits, layout: Layout) -> float:
    """Weights that one device holds: split over tensor parallel and stages, apart from what each rank needs whole;
    experts over all devices of a stage.
    """
    degree = layout.tensor_parallel
    heads = traits.cached_head_bytes * max(1.0 / degree, 1.0 / traits.kv_heads)
    split = traits.dense_bytes + traits.table_bytes - traits.copied_bytes - traits.cached_head_bytes
    dense = split / degree + heads + traits.copied_bytes
    return (dense + traits.expert_bytes / layout.expert_shard) / layout.pipeline_parallel


def device_memory(
    traits: ModelTraits, device: Device, layout: Layout, limits: EngineLimits | None = None
) -> DeviceMemory:
    """The memory of one addressable device under an engine; without limits, the engine that this kit runs there."""
    limits = limits or planned_limits(device)
    usable = device.memory_gib / layout.cores_per_device
    weights = rank_weight_bytes(traits, layout) / GIB
    activations = activation_bytes(traits, limits, layout.tensor_parallel) / GIB
    if device.neuron:
        runtime = NEURON_RUNTIME_GIB * device.cores / layout.cores_per_device
        return DeviceMemory(usable, weights, activations, 0.0, runtime, 0.0, usable - weights - activations - runtime)
    graphs = graph_bytes(traits, limits) / GIB
    alone = layout.tensor_parallel * layout.pipeline_parallel * layout.attention_ranks <= 1
    outside = NON_TORCH_GIB["single" if alone else "parallel"]
    shown = usable - CUDA_CONTEXT_GIB
    free = shown - weights - activations - outside - graphs
    if limits.counted == "rest":
        cache = limits.share * free if free > 0 else free
    else:
        inside = activations + outside + (graphs if limits.graphs_counted else 0.0)
        cache = min(limits.share * shown - weights - (inside if limits.counted == "all" else 0.0), free)
    unused = usable - weights - activations - graphs - outside - cache
    return DeviceMemory(usable, weights, activations, graphs, outside, unused, cache)


def cache_room_bytes(traits: ModelTraits, device: Device, layout: Layout, limits: EngineLimits | None = None) -> float:
    """Bytes left for the cache on one addressable device; negative where the weights do not fit."""
    return device_memory(traits, device, layout, limits).kv_cache_gib * GIB


def smallest_degree(
    traits: ModelTraits, device: Device, addressable: float, stages: float, limits: EngineLimits | None = None
) -> float:
    """The smallest power of two of tensor parallel whose devices hold the model, at most what there is."""
    degree = 1.0
    floor = CACHE_SHARE * device.memory_gib * GIB / device.cores
    while degree * 2 * stages <= addressable:
        if cache_room_bytes(traits, device, Layout(degree, stages, 1, 1, device.cores), limits) > floor:
            break
        degree *= 2
    return degree


def resolve(
    traits: ModelTraits,
    device: Device,
    count: float,
    tensor_parallel: float | None,
    pipeline_parallel: float | None,
    data_parallel: float | None,
    expert_parallel: float | None,
    limits: EngineLimits | None = None,
) -> Layout:
    """The layout of `count` devices, with what is not stated filled in.

    An unknown tensor parallel is the smallest degree that holds the model; what it leaves over are replicas. Data
    parallel together with expert parallel is attention data parallel of one engine.
    """
    cores = float(device.cores)
    addressable = count * cores
    stages = max(1.0, pipeline_parallel or 1.0)
    ranks = max(1.0, data_parallel or 1.0)
    degree = tensor_parallel or smallest_degree(traits, device, addressable / ranks, stages, limits)
    spread = (expert_parallel or 1) > 1 and traits.experts > 0
    if spread and degree * stages * ranks < addressable and not device.neuron:
        ranks = addressable / (degree * stages)
    if degree * stages * ranks > addressable * 1.01:
        if device.neuron:
            # The source counts physical cores of a chip whose cores are otherwise paired.
            cores = degree * stages * ranks / count
            addressable = count * cores
        elif degree * stages <= addressable:
            ranks = max(1.0, addressable / (degree * stages))
        else:
            degree, ranks = max(1.0, addressable / stages), 1.0
    whole = max(1.0, addressable / (degree * stages))
    if spread and ranks > 1:
        return Layout(degree, stages, ranks, max(1.0, whole / ranks), cores)
    return Layout(degree, stages, 1.0, ranks if device.neuron and data_parallel else whole, cores)
