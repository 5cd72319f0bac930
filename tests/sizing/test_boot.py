"""Boots by hand, against every boot, load and compile time that others published, and what must hold of any boot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.catalog import InstanceType, load_catalog
from llm_fleet.sizing.boot import Boot, Served, boot, neuron_compile_s, neuron_host_gib, usd
from llm_fleet.sizing.neuron_buckets import length_buckets

TYPES = load_catalog().instance_types
GPU_TYPES = ("g4dn.xlarge", "g5.xlarge", "g6.12xlarge", "g6e.xlarge", "p4d.24xlarge", "p5.48xlarge")
NEURON_TYPES = ("inf2.xlarge", "inf2.24xlarge", "inf2.48xlarge", "trn1.32xlarge", "trn2.48xlarge")
LLAMA_8B = Served(weight_bytes=16e9, layers=32, tensor_parallel=8, graphs=12)
LLAMA_70B = Served(weight_bytes=141e9, layers=80, tensor_parallel=8)


def stages(kind: str, served: Served, first: bool) -> dict[str, float]:
    """Expected seconds by stage."""
    return boot(TYPES[kind], served, first).stages.by_name()


def test_an_8b_that_compiles_on_inf2_24xlarge_by_hand():
    assert length_buckets(4096, 16).graphs == LLAMA_8B.graphs
    assert stages("inf2.24xlarge", LLAMA_8B, first=True) == pytest.approx(
        {
            "system_s": 60,
            "image_s": 188 / (96 / 4) ** 0.39,  # 188 s on 4 vCPUs
            "weights_s": 16 / 0.26,  # the Hub; 50 Gbit/s are 6.25 GB/s
            "check_s": 2 * 16 / 0.5,
            "publish_s": (16 + 0.48) / 0.5,  # 3 % of artefacts
            "artefacts_s": 0,
            "engine_s": 25,
            "load_s": 16 / (96 * 0.02),
            "compile_s": (4.25 * 32 + 37 * 16 / 8) * 2.5,  # twelve graphs: 1 + 10 x 0.15
            "warm_up_s": 12 * 0.2,
        }
    )


def test_an_8b_that_finds_its_artefacts_on_inf2_24xlarge_by_hand():
    found = stages("inf2.24xlarge", LLAMA_8B, first=False)
    assert found["weights_s"] == pytest.approx(16 / 0.5)
    assert found["check_s"] == pytest.approx(16 / 0.5)
    assert found["artefacts_s"] == pytest.approx(0.48 / 0.5)
    assert found["publish_s"] == found["compile_s"] == 0


def test_an_8b_on_inf2_xlarge_waits_for_its_host_and_does_not_fit_it():
    served = replace(LLAMA_8B, tensor_parallel=2)
    found = stages("inf2.xlarge", served, first=False)
    assert found["load_s"] == pytest.approx(16 / (4 * 0.02))  # 200 s: four vCPUs cut the weights
    assert found["weights_s"] == pytest.approx(16 / (2.083 / 8))  # 61 s: the baseline of the network
    assert neuron_host_gib(served.weight_bytes) == pytest.approx(3 * 14.9, abs=0.05)  # of 16 GiB
    assert neuron_host_gib(served.weight_bytes) > TYPES["inf2.xlarge"].memory_gib


def test_on_trn1_32xlarge_one_engine_compiles_and_three_follow():
    served = replace(LLAMA_8B, replicas=4)
    first, later = (stages("trn1.32xlarge", served, first) for first in (True, False))
    assert first["engine_s"] == 2 * 25
    assert later["engine_s"] == 25
    one = 16 / (128 * 0.02)
    assert first["load_s"] == pytest.approx(one + 3 * one)
    assert later["load_s"] == pytest.approx(4 * one)


def test_a_7b_in_int8_on_g4dn_xlarge_by_hand():
    # 60 + 188 + 7/0.26 + 2 x 7/0.5 + 7/0.5 + 94 + 7/0.89 + 32 x (1.63 + 1.69); the disk's 0.5 GB/s equals S3's.
    found = boot(TYPES["g4dn.xlarge"], Served(7e9, 32, 1), first=True)
    assert found.total_s == pytest.approx(60 + 188 + 26.92 + 28 + 14 + 94 + 7.87 + 106.24, abs=0.1)


def test_a_70b_on_p5_48xlarge_spends_its_boot_on_fetching_and_hashing():
    found = stages("p5.48xlarge", LLAMA_70B, first=False)
    assert found["weights_s"] == found["check_s"] == pytest.approx(282)  # 141 / 0.5 each
    assert found["load_s"] == pytest.approx(141 / (8 * 0.89))
    assert found["compile_s"] == pytest.approx(80 * 1.63)


def test_what_does_not_fit_the_hosts_memory_is_read_from_the_disk_again():
    served = Served(14e9, 32, 1)
    assert stages("g4dn.xlarge", served, first=False)["load_s"] == pytest.approx(14 / 0.5)
    assert stages("g4dn.2xlarge", served, first=False)["load_s"] == pytest.approx(14 / 0.89)


def test_a_boot_costs_its_seconds_at_the_hourly_price():
    assert usd(900, 6.4) == pytest.approx(1.6)


# tensorfuse, Llama 8B on one L40S, nothing cached: download 61, weights 33, dynamo and compile 52, graphs 54, init 94.
def test_an_engine_start_on_l40s_is_near_the_294_s_measured():
    found = stages("g6e.xlarge", Served(16.06e9, 32, 1), first=True)
    ours = sum(found[name] for name in ("weights_s", "engine_s", "load_s", "compile_s", "warm_up_s"))
    assert ours == pytest.approx(294, rel=0.1)


# giantswarm, a 4B (8 GB, 32 layers) on EKS: image and start of vLLM.
@pytest.mark.parametrize(
    ("kind", "image_s", "start_s"), [("g6.xlarge", 188, 258), ("g6.2xlarge", 168, 252), ("g6e.16xlarge", 63, 218)]
)
def test_image_and_start_are_near_those_measured_on_g6(kind: str, image_s: float, start_s: float):
    found = stages(kind, Served(8e9, 32, 1), first=False)
    assert found["image_s"] == pytest.approx(image_s, rel=0.2)
    ours = sum(found[name] for name in ("engine_s", "load_s", "compile_s", "warm_up_s"))
    assert ours == pytest.approx(start_s, rel=0.25)


# kaito issue 2325, a 27B (54 GB, 64 layers) on one A100: start 95, weights 62, compile and warm-up 195.
def test_a_27b_on_an_a100_is_near_the_start_measured():
    found = stages("p4de.24xlarge", Served(54e9, 64, 1), first=False)
    assert found["engine_s"] == pytest.approx(95, rel=0.1)
    assert found["load_s"] == pytest.approx(62, rel=0.1)
    assert found["compile_s"] + found["warm_up_s"] == pytest.approx(195, rel=0.15)


# neuronx-distributed-inference @4bcdc54, contrib READMEs: two graphs on trn1.32xlarge (seconds, billions, layers, TP).
@pytest.mark.parametrize(
    ("model", "seconds", "billions", "layers", "degree"),
    [
        ("GPT-2", 40.5, 0.124, 12, 2),
        ("OLMo-2-1B", 96.4, 1.48, 16, 2),
        ("Qwen3-0.6B", 125.4, 0.6, 28, 8),
        ("SmolLM3-3B", 267.2, 3.08, 36, 2),
        ("Llama-2-7B", 362.0, 6.74, 32, 2),
        ("Qwen2-7B", 426.1, 7.6, 28, 2),
        ("Granite-3.1-8B", 317.6, 8.2, 40, 2),
        ("OLMo-2-7B", 370.0, 7.3, 32, 8),
        ("Mistral-Small-24B", 384.9, 23.6, 40, 8),
        ("Seed-OSS-36B", 1007.3, 36.2, 64, 8),
    ],
)
def test_a_compilation_is_within_1_82_times_the_one_measured(
    model: str, seconds: float, billions: float, layers: int, degree: int
):
    ratio = neuron_compile_s(2e9 * billions, layers, degree, 2) / seconds
    assert 1 / 1.82 < ratio < 1.82, model


# The vLLM guide of the Neuron SDK: about 15 minutes for 15 GB. Optimum Neuron: 30 to 60 for large models.
def test_compilations_are_near_the_minutes_that_the_guides_name():
    assert neuron_compile_s(15e9, 32, 2, length_buckets(4096, 4).graphs) / 60 == pytest.approx(15, rel=0.25)
    seventy = boot(TYPES["trn1.32xlarge"], Served(141e9, 80, 32, graphs=12), first=True).stages.compile_s / 60
    assert seventy < 60
    assert 1.82 * seventy > 30


# Loads on Neuron: GB, seconds. TinyLlama's are the cutting of the weights; 405B is the weights-sharding guide's.
@pytest.mark.parametrize(
    ("kind", "gigabytes", "seconds"),
    [("inf2.xlarge", 2.2, 29.4), ("trn1.2xlarge", 2.2, 13), ("trn2.3xlarge", 12, 37.6), ("trn2.48xlarge", 810, 187.4)],
)
def test_a_load_on_neuron_is_near_the_one_measured(kind: str, gigabytes: float, seconds: float):
    found = stages(kind, Served(gigabytes * 1e9, 22, 1, graphs=2), first=False)
    assert found["load_s"] == pytest.approx(seconds, rel=0.4)


# TinyLlama on trn1.2xlarge, EKS: 212 s until compiled (download within), 41 s from the pod to serving with artefacts.
def test_tinyllama_on_trn1_compiles_and_starts_again_as_measured():
    served = Served(2.2e9, 22, 2, graphs=2)
    found = boot(TYPES["trn1.2xlarge"], served, first=True).stages
    assert found.compile_s / 1.82 < 212 < found.compile_s * 1.82
    again = stages("trn1.2xlarge", served, first=False)
    assert again["engine_s"] + again["load_s"] + again["warm_up_s"] == pytest.approx(41, rel=0.15)


SERVED = st.builds(
    Served,
    weight_bytes=st.floats(1e8, 1e12),
    layers=st.integers(8, 128),
    tensor_parallel=st.sampled_from((1, 2, 8, 32)),
    replicas=st.integers(1, 8),
    graphs=st.integers(0, 40),
)
KIND = st.sampled_from([TYPES[name] for name in (*GPU_TYPES, *NEURON_TYPES)])


@given(kind=KIND, served=SERVED, first=st.booleans(), more=st.floats(1, 10))
def test_more_bytes_never_boot_faster(kind: InstanceType, served: Served, first: bool, more: float):
    light, heavy = (
        boot(kind, served, first),
        boot(kind, replace(served, weight_bytes=more * served.weight_bytes), first),
    )
    assert all(a <= b + 1e-9 for a, b in zip(parts(light), parts(heavy), strict=True))


@given(kind=KIND, served=SERVED)
def test_a_later_boot_is_never_slower_than_the_first(kind: InstanceType, served: Served):
    first, later = boot(kind, served, first=True), boot(kind, served, first=False)
    assert later.total_s <= first.total_s
    assert later.low_s <= first.low_s
    assert later.high_s <= first.high_s


@given(kind=KIND, served=SERVED, first=st.booleans())
def test_low_and_high_enclose_what_is_expected(kind: InstanceType, served: Served, first: bool):
    found = boot(kind, served, first)
    assert found.low_s < found.total_s < found.high_s


@given(kind=KIND, served=SERVED.filter(lambda served: served.neuron))
def test_artefacts_from_the_cache_come_faster_than_compiling(kind: InstanceType, served: Served):
    first, later = boot(kind, served, first=True).stages, boot(kind, served, first=False).stages
    assert later.artefacts_s + later.compile_s < first.compile_s


@given(served=SERVED.filter(lambda served: served.neuron))
def test_more_graphs_compile_longer_and_more_cores_compile_sooner(served: Served):
    def seconds(degree: int, graphs: int) -> float:
        return neuron_compile_s(served.weight_bytes, served.layers, degree, graphs)

    assert seconds(2, served.graphs + 2) > seconds(2, served.graphs)
    assert seconds(2 * served.tensor_parallel, 12) < seconds(served.tensor_parallel, 12)


def parts(found: Boot) -> list[float]:
    """Every figure of a boot."""
    return [*found.stages.by_name().values(), found.low_s, found.high_s]
