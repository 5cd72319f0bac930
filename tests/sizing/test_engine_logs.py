"""Memory against what engines logged of themselves, with the reason where a model of this kind cannot match.

Devices are given as CUDA showed them in the log: the driver's figure is CUDA_CONTEXT_GIB more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.sizing.cache import token_bytes
from llm_fleet.sizing.case import version_minor
from llm_fleet.sizing.device import devices
from llm_fleet.sizing.layout import DeviceMemory, Layout, device_memory
from llm_fleet.sizing.reserve import (
    CUDA_CONTEXT_GIB,
    GIB,
    PLANNED_MINOR,
    SAMPLER_BYTES,
    SORTED_SAMPLER_BYTES,
    EngineLimits,
)
from llm_fleet.sizing.traits import ModelTraits, model_traits


@dataclass(frozen=True)
class Log:
    """One engine's start. Sequences and tokens are the log's, or the defaults of that version on that device."""

    model: str
    precision: str
    device: str
    shown_gib: float
    tensor_parallel: float
    kind: str
    minor: int
    sequences: float
    tokens: float
    kv_bytes: float = 2.0

    @property
    def traits(self) -> ModelTraits:
        return model_traits(load_models().cards[self.model], self.precision, self.kv_bytes)

    @property
    def memory(self) -> DeviceMemory:
        device = replace(devices()[self.device], memory_gib=self.shown_gib + CUDA_CONTEXT_GIB)
        limits = EngineLimits(self.kind, self.minor, self.sequences, self.tokens)
        return device_memory(self.traits, device, Layout(self.tensor_parallel, 1, 1, 1, 1), limits)

    @property
    def cache_tokens(self) -> float:
        return self.memory.kv_cache_gib * GIB / token_bytes(self.traits, self.tensor_parallel, 1)


LLAMA = "meta-llama/Llama-3.1-8B"
# vLLM PR 21489 (2025-07): offline on B200, all defaults.
GEMMA = Log("google/gemma-3-4b-it", "bf16", "B200", 178.36, 1, "vllm", 9, 1024, 16384)
# oracle-samples/oci-data-science-ai-samples, AI Quick Actions: A10G, chunks of 2,048; its sequences are not said.
A10G = Log(LLAMA, "bf16", "A10G", 22.07, 1, "vllm 0.6", 0, 1, 2048)
# vLLM PR 10511 (2024-12): context 8,192, 256 sequences.
H100 = Log("meta-llama/Meta-Llama-3-8B", "bf16", "H100", 79.22, 1, "vllm 0.6", 0, 256, 8192)
H100_PAIR = replace(H100, tensor_parallel=2)
# vLLM PR 17122 (2025-04): 1,024 sequences were the default of every GPU.
L40S = Log(LLAMA, "bf16", "L40S", 44.4, 1, "vllm", 8, 1024, 2048)
# A public diary of vLLM 0.31.0 on A100-80 (2026-10), all defaults.
A100 = Log(LLAMA, "bf16", "A100-80", 79.25, 1, "vllm", 31, 1024, 8192)
# Public logs: a T4 with vLLM 0.7 and the model's context of 32,768, a 4090 with 0.10.2.
T4 = Log("Qwen/Qwen2.5-1.5B-Instruct", "fp16", "T4", 14.56, 1, "vllm 0.6", 0, 256, 32768)
RTX4090 = Log("Qwen/Qwen3-8B", "fp8", "L4", 23.53, 1, "vllm", 10, 256, 2048)
# vLLM issue 21348 (2025-07), issue 45178 (2026-06: two ranks of attention; one of two halves of the experts).
QWEN_235B = Log("Qwen/Qwen3-235B-A22B", "fp8", "H100", 79.19, 4, "vllm", 9, 1024, 8192)
MAVERICK = Log("meta-llama/Llama-4-Maverick-17B-128E-Instruct", "fp8", "H100", 79.19, 8, "vllm", 9, 1024, 8192)
PAIR_OF_V100 = Log("Qwen/Qwen3.6-27B", "int4", "V100-16", 15.77, 2, "vllm", 27, 6, 8192)


@pytest.mark.parametrize(
    ("log", "weights", "within"),
    [
        (H100, 14.96, 0.001),
        (H100_PAIR, 7.48, 0.001),
        # 2.875 and the rounding of small tensors up to 2 MiB.
        (T4, 2.89, 0.006),
        (RTX4090, 8.80, 0.003),
        # 14.99 "GiB": the loader's allocations of 0.03 GiB beside the tensors.
        (A10G, 14.99, 0.003),
        (A100, 15.0, 0.003),
        # The card is the text tower; the log holds the tower for images as well (0.42 B x 2 bytes = 0.78 GiB) and 0.57
        # GiB more that neither explains: 8.58 is near the checkpoint's 8.60 GB, so the unit may be mistaken.
        (GEMMA, 8.58, 0.16),
    ],
)
def test_weights_are_those_of_the_log(log: Log, weights: float, within: float):
    assert log.memory.weights_gib == pytest.approx(weights, rel=within)


@pytest.mark.parametrize(
    ("log", "activations", "within"),
    [
        # Sampling of 1,024 x 262,144 logits: 40 bytes each = 10.0 GiB.
        (GEMMA, 9.96, 0.01),
        # 256 x 151,936 x 40 bytes = 1.45 GiB.
        (RTX4090, 1.40, 0.05),
        # 256 x 128,256 x 40 bytes = 1.22 GiB, on one device or two: the logits are not split.
        (H100, 1.26, 0.05),
        (H100_PAIR, 1.26, 0.05),
        # A layer: 32,768 tokens x (3 x 8,960 + 4 x 1,536) x 2 bytes = 2.02 GiB.
        (T4, 2.02, 0.01),
        # 2,048 x (3 x 14,336 + 4 x 4,096) x 2 bytes = 0.23 GiB; the same figure is a planner's for an L4.
        (A10G, 0.22, 0.05),
        # Since 0.17 the sampler does not sort: 1,024 x 128,256 x 12 bytes = 1.47 GiB.
        (A100, 1.44, 0.05),
    ],
)
def test_activations_are_those_of_the_log(log: Log, activations: float, within: float):
    assert log.memory.activations_gib == pytest.approx(activations, rel=within)


@pytest.mark.parametrize(
    ("log", "tokens", "within"),
    [
        (A10G, 37_696, 0.01),
        (A100, 460_496, 0.01),
        (L40S, 158_656, 0.05),
        # 6 % of the device is unexplained: buffers of four ranks beyond the usual 0.6 GiB, and a fused MoE's workspace.
        (QWEN_235B, 178_880, 0.25),
    ],
)
def test_the_tokens_of_the_cache_are_those_of_the_log(log: Log, tokens: int, within: float):
    assert log.cache_tokens == pytest.approx(tokens, rel=within)


def test_the_cache_of_experts_spread_over_two_devices_is_that_of_the_log():
    # B200, MiniMax-M2.5 (the shape of M2.7) in nvfp4, cache in fp8, two attention ranks: 769,888 tokens on each with
    # the estimate of graphs switched off, as it was before 0.21.
    traits = model_traits(load_models().cards["MiniMaxAI/MiniMax-M2.7"], "nvfp4", 1.0)
    limits = EngineLimits("vllm", 20, 1024, 16384)
    found = device_memory(traits, replace(devices()["B200"], memory_gib=178.86), Layout(1, 1, 2, 1, 1), limits)
    assert found.kv_cache_gib * GIB / token_bytes(traits, 1, 1) == pytest.approx(769_888, rel=0.1)
    # With the estimate the log holds 245,840. That is a fault of the estimate (vLLM issue 45178: the second graph's
    # memory times all graphs), not memory that is used: not matched.
    assert found.kv_cache_gib * GIB / token_bytes(traits, 1, 1) > 2 * 245_840


@pytest.mark.parametrize(
    ("log", "graphs"),
    # Since about 0.30 they take less than half (0.23 GiB on A100): kept as an upper bound.
    [(GEMMA, 0.65), (RTX4090, 0.68), (MAVERICK, 1.3)],
)
def test_graphs_are_those_of_the_log(log: Log, graphs: float):
    assert log.memory.graphs_gib == pytest.approx(graphs, rel=0.05)


@pytest.mark.parametrize(
    ("log", "outside"), [(GEMMA, 0.07), (A10G, 0.05), (RTX4090, 0.02), (A100, 0.26), (PAIR_OF_V100, 0.39)]
)
def test_buffers_outside_the_allocator_are_near_those_of_the_log(log: Log, outside: float):
    assert log.memory.non_torch_gib == pytest.approx(outside, abs=0.25)


def test_a_model_with_a_tower_for_images_needs_more_than_its_text():
    # Two V100-16 logged 2.53 GiB of activations for about 7.5 GiB of weights each: dummy images go through the tower,
    # and layers of linear attention keep states of a chunk, neither of which a text model's shape tells.
    assert PAIR_OF_V100.memory.weights_gib == pytest.approx(7.5, rel=0.12)
    assert PAIR_OF_V100.memory.activations_gib < 2.53


def test_sampling_takes_what_the_engines_authors_measured():
    # vLLM PR 32558, 256 x 131,072 logits: 1.25 GiB sorted, 384.33 MiB by a kernel.
    assert pytest.approx(1.25, rel=0.01) == 256 * 131072 * SORTED_SAMPLER_BYTES / GIB
    assert pytest.approx(384.33, rel=0.01) == 256 * 131072 * SAMPLER_BYTES / 2**20


def test_the_engine_of_a_plan_is_the_one_that_the_catalogue_pins():
    [pinned] = [engine for engine in load_catalog().engines if engine.name == "vllm"]
    assert version_minor(pinned.version) == PLANNED_MINOR
