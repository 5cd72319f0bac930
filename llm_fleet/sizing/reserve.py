"""What an engine takes of one device before the cache, by engine class and version.

    activations  the larger of a chunk of tokens in the hungriest layer, and the logits of a full batch being sampled
    graphs       captured CUDA graphs
    non-torch    context and communication buffers outside the framework's allocator
    share        of a device's memory that the engine fills at all

Checked against the engine logs in tests/sizing/test_engine_logs.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_fleet.sizing.device import Device
from llm_fleet.sizing.traits import ModelTraits

GIB = 2**30

UTILISATION = {"up to 0.18": 0.90, "since": 0.92}
"""vLLM's default gpu_memory_utilization (vllm/config/cache.py)."""
UTILISATION_MINOR = 19
GRAPHS_COUNTED_MINOR = 21
"""From this vLLM on, graphs are estimated and taken off the cache; before, they came out of the unused share."""
SORTED_SAMPLER_BYTES = 40.0
"""Of one logit while a batch is sampled by sorting, as vLLM did up to 0.16: 1.25 GiB for 256 x 131,072 (vLLM PR 32558).
"""
SAMPLER_BYTES = 12.0
"""By a kernel that does not sort: 384 MiB for the same batch (the same table; vLLM PR 33538)."""
SAMPLER_MINOR = 17
GRAPHS_GIB = 0.65
"""Of a dense model (logs of vLLM 0.9 to 0.11 with 67 capture sizes, 4B to 8B: 0.65 to 0.68 GiB; 0.31: 0.23)."""
EXPERT_GRAPHS = 2.0
"""Times that for a mixture of experts (Llama-4 Maverick: 1.3 GiB)."""
NON_TORCH_GIB = {"single": 0.1, "parallel": 0.6}
"""One device, or several with their communication buffers (logs: 0.05 to 0.26, and 0.39 to 0.95 GiB)."""
CUDA_CONTEXT_GIB = 0.5
"""By which CUDA shows less than the driver: 0.4 to 0.75 GiB on A10G, L4, A100, H100, B200 and RTX PRO 4500."""
SGLANG_SHARE = 0.86
"""mem_fraction_static, weights and cache together: its default falls from 0.88 with larger chunks."""
TRTLLM_SHARE = 0.9
"""kv_cache_free_gpu_memory_fraction: of what weights and activations leave."""
UNPACKED_TOKENS = 65536.0
"""Of TensorRT-LLM before a token budget was the default: its buffers are built for a full batch of whole prompts, such
as 64 of 1,024. An assumption: the build's own limits are in no log."""
TGI_SHARE = 0.95
"""cuda_memory_fraction 1 with TGI_WIGGLE_ROOM 0.95."""
PLAIN_SHARE = 0.98
"""Engines without a pool: llama.cpp, compiled, fused and eager ones allocate what is asked; 2 % goes to fragments."""
NEURON_RUNTIME_GIB = 1.0
"""Runtime, collectives and compiled code of one NeuronCore. An assumption: no measurement found."""
PLANNED_MINOR = 33
"""Of the vLLM that an unnamed engine is taken for: the version this kit pins (configs/catalog/engines.yaml)."""
LARGE_GIB = 70
"""From this memory on vLLM takes chunks of 8,192 prompt tokens (2,048 on A100) and 1,024 sequences, below it 2,048
and 256."""

Counted = Literal["all", "weights", "rest"]
"""What the share covers besides the cache: everything, weights alone, or nothing, being a share of what is left."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """One engine's class (of case.ENGINES), version and limits, as far as memory depends on them."""

    kind: str
    minor: int
    """Minor version of vLLM 0.x; 0 for other engines and for vLLM before 0.8."""
    sequences: float
    """max_num_seqs, on Neuron the compiled batch."""
    chunk_tokens: float
    """max_num_batched_tokens, on Neuron the largest context bucket."""

    @property
    def vllm(self) -> bool:
        """Any vLLM on GPUs."""
        return self.kind.startswith("vllm")

    @property
    def share(self) -> float:
        """Of the memory that CUDA shows."""
        if self.vllm:
            return UTILISATION["since" if self.minor >= UTILISATION_MINOR else "up to 0.18"]
        if self.kind.startswith("trtllm"):
            return TRTLLM_SHARE
        return {"sglang": SGLANG_SHARE, "tgi": TGI_SHARE}.get(self.kind, PLAIN_SHARE)

    @property
    def counted(self) -> Counted:
        """What the share covers."""
        if self.kind == "sglang":
            return "weights"
        return "rest" if self.kind.startswith("trtllm") else "all"

    @property
    def graphs_counted(self) -> bool:
        """Whether graphs come off the cache, and not out of the unused share."""
        return not self.vllm or self.minor >= GRAPHS_COUNTED_MINOR

    @property
    def buffer_tokens(self) -> float:
        """Tokens of one step that activations are set aside for."""
        return max(self.chunk_tokens, UNPACKED_TOKENS) if self.kind == "trtllm 2023" else self.chunk_tokens

    @property
    def sampler_bytes(self) -> float:
        """Of one logit of a full batch. Engines without a pool sample row by row."""
        if self.vllm:
            return SAMPLER_BYTES if self.minor >= SAMPLER_MINOR else SORTED_SAMPLER_BYTES
        return SAMPLER_BYTES if self.kind in ("sglang", "tgi") or self.kind.startswith("trtllm") else 0.0


def default_sequences(kind: str, device: Device) -> float:
    """Sequences that the engine lets run where nobody says."""
    if device.neuron:
        return 512.0
    if kind.startswith("trtllm"):
        return 2048.0
    return 1024.0 if device.memory_gib > LARGE_GIB else 256.0


def default_chunk_tokens(device: Device) -> float:
    """Prompt tokens that one step carries at most."""
    large = device.memory_gib > LARGE_GIB and device.architecture != "ampere"
    return 8192.0 if large else 2048.0


def engine_limits(
    kind: str, device: Device, newer: float = 0.0, minor: int = 0, sequences: float = 0.0, chunk_tokens: float = 0.0
) -> EngineLimits:
    """The limits of an engine class, its defaults where 0. Without a minor version of vLLM, `newer` (fives of them
    after 0.8) tells it.
    """
    if kind != "vllm":
        minor = 0
    elif not minor:
        minor = round(8 + 5 * newer)
    return EngineLimits(
        kind, minor, sequences or default_sequences(kind, device), chunk_tokens or default_chunk_tokens(device)
    )


def planned_limits(device: Device) -> EngineLimits:
    """The engine that this kit runs on a device, with its defaults."""
    return engine_limits("neuron" if device.neuron else "vllm", device, minor=PLANNED_MINOR)


def activation_bytes(traits: ModelTraits, limits: EngineLimits, tensor_parallel: float) -> float:
    """Peak of what a step computes beside weights and cache, on one device, in 16 bit.

    A layer's MLP holds its halves and their product while the residual stream waits: 2 bytes x tokens x (3 x width /
    TP + 4 x hidden), which is what a log of vLLM gives for a model with a small vocabulary (2.02 GiB for Qwen2.5-1.5B
    and 32,768 tokens). Sampling comes after the layers are done, on logits of every rank in full.
    """
    layer = 2 * limits.buffer_tokens * (traits.split_activations / tensor_parallel + traits.whole_activations)
    return max(layer, limits.sequences * traits.vocabulary * limits.sampler_bytes)


def graph_bytes(traits: ModelTraits, limits: EngineLimits) -> float:
    """Captured CUDA graphs of vLLM and its kin; none for engines that keep no pool."""
    if limits.sampler_bytes == 0:
        return 0.0
    return GRAPHS_GIB * GIB * (EXPERT_GRAPHS if traits.experts else 1.0)
