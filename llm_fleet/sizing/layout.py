"""How a model is split over the devices of an instance: tensor, pipeline, data and expert parallel, and replicas."""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.sizing.device import Device
from llm_fleet.sizing.traits import ModelTraits

GIB = 2**30

UTILISATION = 0.9
"""Share of a GPU that an engine fills: the default of vLLM up to 0.18 and near that of the others."""
RESERVE_GIB = 1.0
"""Activations, graphs and communication buffers of one GPU, at least."""
RESERVE_SHARE = 0.02
"""And more on large ones, whose engines take larger chunks of prompts."""
CACHE_SHARE = 0.08
"""Of a device's memory: the cache that a model needs beside its weights to be held in earnest."""
NEURON_RESERVE_GIB = 1.0
"""Runtime and compiled code of one NeuronCore."""


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


def reserve_bytes(device: Device, cores_per_device: float = 1.0) -> float:
    """What an engine keeps from weights and cache on one addressable device."""
    if device.neuron:
        return NEURON_RESERVE_GIB * GIB * device.cores / cores_per_device
    return (device.memory_gib * (1 - UTILISATION + RESERVE_SHARE) + RESERVE_GIB) * GIB


def cache_room_bytes(traits: ModelTraits, device: Device, layout: Layout) -> float:
    """Bytes left for the cache on one addressable device; negative where the weights do not fit."""
    stages = layout.pipeline_parallel
    dense = (traits.dense_bytes + traits.table_bytes) / layout.tensor_parallel / stages
    experts = traits.expert_bytes / layout.expert_shard / stages
    usable = device.memory_gib * GIB / layout.cores_per_device
    return usable - reserve_bytes(device, layout.cores_per_device) - dense - experts


def smallest_degree(traits: ModelTraits, device: Device, addressable: float, stages: float) -> float:
    """The smallest power of two of tensor parallel whose devices hold the model, at most what there is."""
    degree = 1.0
    floor = CACHE_SHARE * device.memory_gib * GIB / device.cores
    while degree * 2 * stages <= addressable:
        if cache_room_bytes(traits, device, Layout(degree, stages, 1, 1, device.cores)) > floor:
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
) -> Layout:
    """The layout of `count` devices, with what is not stated filled in.

    An unknown tensor parallel is the smallest degree that holds the model; what it leaves over are replicas. Data
    parallel together with expert parallel is attention data parallel of one engine.
    """
    cores = float(device.cores)
    addressable = count * cores
    stages = max(1.0, pipeline_parallel or 1.0)
    ranks = max(1.0, data_parallel or 1.0)
    degree = tensor_parallel or smallest_degree(traits, device, addressable / ranks, stages)
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
