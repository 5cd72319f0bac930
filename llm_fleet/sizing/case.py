"""From a configuration in the field's words to the numbers of the physics: engine class, format, layout, limits.

A Setup is what someone runs (model, format, device, engine, parallelism); `work_of` turns many of them into the arrays
that step_time.py and service.py take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llm_fleet.sizing.cache import state_bytes, token_bytes
from llm_fleet.sizing.coefficients import FORMATS, Floats, Integers, Levels
from llm_fleet.sizing.device import ARCHITECTURES, LINK_GB_PER_S, MEMORY, Device
from llm_fleet.sizing.layout import DeviceMemory, Layout, device_memory
from llm_fleet.sizing.reserve import GIB, EngineLimits, engine_limits
from llm_fleet.sizing.service import Load
from llm_fleet.sizing.step_time import Work
from llm_fleet.sizing.traits import ModelTraits

ENGINES = (
    *("vllm 2023", "vllm 0.3", "vllm 0.6", "vllm", "sglang", "trtllm 2023", "trtllm 0.17", "trtllm", "tgi"),
    *("llama.cpp", "compiled", "fused", "eager", "neuron 2023", "neuron served", "neuron"),
)
"""Engine classes. vllm: before 0.3 (or early 2024), before 0.6, before 0.8, and since. trtllm: before 0.17, before 1.0,
and since. compiled: gpt-fast, mlc, exllama; fused: FasterTransformer, DeepSpeed; eager: PyTorch as it stands. neuron
2023: transformers-neuronx in a bare loop; neuron served: servers over it, which sample on the host (TGI, Triton);
neuron: NxD Inference and vLLM on it."""

SERVED_ENGINES = ("vllm 0.3", "vllm 0.6", "vllm", "sglang", "trtllm 2023", "trtllm 0.17", "trtllm")
"""Engines with captured graphs and continuous batching: the family from which one with few points inherits."""

_OTHERS = {
    **{"sglang": "sglang", "llama.cpp": "llama.cpp", "ik_llama.cpp": "llama.cpp", "ctransformers": "llama.cpp"},
    **{"tgi": "tgi", "lmi": "tgi", "gpt-fast (pytorch compile)": "compiled", "mlc-llm": "compiled"},
    **{"exllama": "compiled", "exllamav2": "compiled", "qserve": "trtllm 2023", "tinychat": "compiled"},
    **{"fastertransformer": "fused", "deepspeed-inference": "fused", "deepspeed-mii": "fused", "ctranslate2": "fused"},
    **{"optimum-nvidia": "trtllm 2023", "autoawq": "compiled"},
}
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
MODERN_MINOR = 8
NEWEST_MINOR = 20
"""No point is newer: the trend stops there."""


def version_minor(engine_version: str) -> int | None:
    """0.15.1 -> 15, 1.2 -> 102; None where there is none."""
    found = _VERSION.match(engine_version)
    return int(found[1]) * 100 + int(found[2]) if found else None


def engine_class(engine: str, engine_version: str, date: str, neuron: bool) -> str:
    """The class of an engine. Without a version its date decides; without either it counts as present-day."""
    minor = version_minor(engine_version)
    if neuron:
        if engine in ("tgi", "triton+vllm (neuron)"):
            return "neuron served"
        return "neuron" if engine in ("neuronx-distributed", "vllm", "") else "neuron 2023"
    if engine == "vllm":
        if minor is None:
            if not date or date >= "2025-03":
                return "vllm"
            if date >= "2024-10":
                return "vllm 0.6"
            return "vllm 0.3" if date >= "2024-05" or date == "2024" else "vllm 2023"
        return "vllm 2023" if minor < 3 else "vllm 0.3" if minor < 6 else "vllm 0.6" if minor < MODERN_MINOR else "vllm"
    if engine in ("tensorrt-llm", ""):
        if minor is None or minor > 800:
            if not date or date >= "2025-09":
                return "trtllm"
            return "trtllm 0.17" if date >= "2024-12" else "trtllm 2023"
        return "trtllm 2023" if minor < 17 else "trtllm 0.17" if minor < 100 else "trtllm"
    return _OTHERS.get(engine, "eager")


def newer_fives(engine: str, engine_version: str, kind: str) -> float:
    """Fives of minor versions of vLLM after 0.8; 0 for everything else."""
    if kind != "vllm":
        return 0.0
    minor = version_minor(engine_version)
    return (min(max(12 if minor is None else minor, MODERN_MINOR), NEWEST_MINOR) - MODERN_MINOR) / 5


@dataclass(frozen=True, slots=True)
class Setup:
    """One configuration, resolved."""

    traits: ModelTraits
    device: Device
    layout: Layout
    engine: str
    """One of ENGINES."""
    newer: float = 0.0
    most_running: float = 0.0
    """0: the engine's default."""
    compiled_batch: float = 0.0
    minor: int = 0
    """Minor version of vLLM; 0: `newer` tells it."""

    @property
    def limits(self) -> EngineLimits:
        """Class, version and limits of the engine, its defaults filled in."""
        return engine_limits(self.engine, self.device, self.newer, self.minor, self.most_running)

    @property
    def memory(self) -> DeviceMemory:
        """Where the memory of one addressable device goes."""
        return device_memory(self.traits, self.device, self.layout, self.limits)


def levels() -> Levels:
    """Levels of every factor, in a fixed order."""
    architectures = tuple(dict.fromkeys(ARCHITECTURES.values()))
    return Levels(
        {
            "memory": tuple(dict.fromkeys(MEMORY.values())),
            "architecture": architectures,
            "family": ("served", "other", "neuron"),
            "engine": ENGINES,
            "dense_format": FORMATS,
            "expert_format": FORMATS,
            "link": tuple(LINK_GB_PER_S),
            "bus": ("nvlink", "pcie", "neuronlink"),
        }
    )


def _bus(link: str) -> str:
    return "pcie" if link.startswith("pcie") else "neuronlink" if link.startswith("neuron") else "nvlink"


def engine_family(engine: str) -> str:
    """served, neuron, or other."""
    return "neuron" if engine.startswith("neuron") else "served" if engine in SERVED_ENGINES else "other"


def level_rows(setups: Sequence[Setup], where: Levels) -> dict[str, Integers]:
    """Each setup's level of every factor."""
    words: dict[str, list[str]] = {
        "memory": [s.device.memory_kind for s in setups],
        "architecture": [s.device.architecture for s in setups],
        "family": [engine_family(s.engine) for s in setups],
        "engine": [s.engine for s in setups],
        "dense_format": [s.traits.dense_format for s in setups],
        "expert_format": [s.traits.expert_format for s in setups],
        "link": [s.device.link for s in setups],
        "bus": [_bus(s.device.link) for s in setups],
    }
    return {
        factor: np.array([where.names[factor].index(word) for word in found], dtype=np.int64)
        for factor, found in words.items()
    }


def _peak(device: Device, family: str, precision: str) -> float:
    """Dense peak of the format that the multiplication runs in: weight-only formats compute in 16 bit."""
    if family == "8-bit float":
        return device.tflops_8
    if family == "4-bit float":
        return device.tflops_4 if device.architecture.startswith("blackwell") else device.tflops_16
    if family == "4-bit mx":
        return device.tflops_8 if device.architecture.startswith("blackwell") else device.tflops_16
    if precision in ("int8", "w4a8", "w4a8-kv4"):
        return device.tops_int8
    return device.tflops_16


def _numbers(setup: Setup) -> dict[str, float]:
    """One setup's row of Work and Load, of one addressable device and one pipeline stage."""
    t, d, o = setup.traits, setup.device, setup.layout
    cores, stages, degree = o.cores_per_device, o.pipeline_parallel, o.tensor_parallel
    limits = setup.limits
    return {
        "bandwidth": d.bandwidth_gb_per_s * 1e9 / cores,
        "flops": _peak(d, t.dense_format, t.precision) * 1e12 / cores,
        "expert_flops": _peak(d, t.expert_format, t.precision) * 1e12 / cores,
        "attention_flops": d.tflops_16 * 1e12 / cores,
        "link_bandwidth": LINK_GB_PER_S[d.link] * 1e9 / (cores if d.neuron else 1),
        "over_bus": float(_bus(d.link) == "pcie"),
        "dense_bytes": t.dense_bytes / degree / stages,
        "expert_bytes": t.expert_bytes / o.expert_shard / stages,
        "dense_flop_per_token": 2 * t.dense_params / degree / stages,
        "head_flop_per_sequence": 2 * t.head_params / degree / stages,
        "expert_flop_per_token": 2 * t.expert_params / degree / stages,
        "expert_miss": 1 - t.experts_per_token / t.experts if t.experts else 0.0,
        "moe_layers": t.moe_layers / stages,
        "layers": t.layers / stages,
        "state_layers": t.state_layers / stages,
        "latent_layers": t.latent * t.layers / stages,
        "hidden": t.hidden,
        "vocabulary": t.vocabulary,
        "cache_bytes_per_token": token_bytes(t, degree, stages),
        "latent_flop_per_pair": t.latent_flops_per_pair / degree / stages,
        "attention_flop_per_pair": t.attention_flops_per_pair / degree / stages,
        "state_bytes": state_bytes(t, degree, stages),
        "window_tokens": t.window_tokens,
        "window_share": t.window_share,
        "tensor_parallel": degree,
        "expert_shard": o.expert_shard if t.experts else degree,
        "attention_ranks": o.attention_ranks,
        "stages": stages,
        "newer": setup.newer,
        "replicas": o.replicas,
        "cache_room_bytes": setup.memory.kv_cache_gib * GIB,
        "most_running": limits.sequences,
        "chunk_tokens": limits.chunk_tokens,
        "compiled": float(d.neuron),
        "compiled_batch": setup.compiled_batch,
        "opening": 1.0,
        "reserved_share": 1.0 if setup.engine.startswith(NEVER_EVICT) else 0.5,
    }


KEPT = (
    *("most_running", "chunk_tokens", "compiled", "compiled_batch", "opening", "replicas", "cache_room_bytes"),
    "reserved_share",
)
"""What a setup says of the load."""
NEVER_EVICT = ("trtllm", "tgi", "neuron")
"""Classes that take a request in when its whole answer has room: TensorRT-LLM's scheduler guarantees that it evicts
nothing unless told otherwise, Text Generation Inference budgets input and output tokens, Neuron compiles its slots."""


def arrays_of(setups: Sequence[Setup]) -> dict[str, Floats]:
    """The numbers of many setups, one array a name."""
    rows = [_numbers(setup) for setup in setups]
    names = dict.fromkeys((*Work.__dataclass_fields__, *KEPT))
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def work_of(columns: Mapping[str, Floats]) -> Work:
    """The part that the step takes."""
    return Work(**{name: columns[name] for name in Work.__dataclass_fields__})


def load_of(columns: Mapping[str, Floats], concurrency: Floats, inputs: Floats, outputs: Floats) -> Load:
    """The part that the service takes, with what is asked."""
    return Load(concurrency, inputs, outputs, **{name: columns[name] for name in KEPT})
