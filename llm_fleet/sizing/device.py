"""One addressable device as the physics sees it: peaks, memory, link to its peers, and which kin it has.

The catalogue knows what EC2 sells; configs/benchmarks/accelerators.csv adds near cousins that only the measured points
name (A10, H100-PCIe, GH200) and figures that the catalogue leaves empty.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from llm_fleet.catalog import Accelerator, load_catalog
from llm_fleet.csv_table import Row, read_table
from llm_fleet.documents import CONFIGS
from llm_fleet.errors import InputError, Problem

COUSINS = CONFIGS / "benchmarks" / "accelerators.csv"
COUSIN_COLUMNS = (
    *("name", "like", "memory_usable_gib", "memory_bandwidth_gb_per_s", "fp16_tflops", "fp8_tflops", "int8_tops"),
    *("fp4_tflops", "link", "source"),
)

ARCHITECTURES = {
    **{"T4": "turing", "T4G": "turing", "V100-16": "volta", "V100-32": "volta", "A10G": "ampere-gddr", "L4": "ada"},
    **{"L40S": "ada", "A100-40": "ampere", "A100-80": "ampere", "H100": "hopper", "H200": "hopper"},
    **{"B200": "blackwell", "B300": "blackwell", "GB200": "blackwell", "RTX-PRO-6000": "blackwell-gddr"},
    **{"RTX-PRO-4500": "blackwell-gddr", "Inferentia2": "neuron2", "Trainium1": "neuron2", "Trainium2": "neuron3"},
}
"""Kin that share coefficients."""

MEMORY = {
    **{"turing": "gddr", "ampere-gddr": "gddr", "ada": "gddr", "blackwell-gddr": "gddr"},
    **{"volta": "hbm", "ampere": "hbm", "hopper": "hbm", "blackwell": "hbm", "neuron2": "neuron", "neuron3": "neuron"},
}
"""The wider family from which an architecture without points inherits."""

LINK_GB_PER_S = {
    **{"nvlink2": 150.0, "nvlink3": 300.0, "nvlink4": 450.0, "nvlink5": 900.0},
    **{"pcie3-x8": 8.0, "pcie4-x8": 16.0, "pcie4-x16": 32.0, "pcie5-x16": 64.0},
    **{"neuronlink2": 96.0, "neuronlink3": 512.0},
}
"""One direction, one device."""

DRIVER_SHARE = 0.985
"""Memory that a driver reports of the nominal, where nobody wrote it down."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a Neuron chip with its cores. Rates and memory are of the whole device."""

    name: str
    architecture: str
    memory_gib: float
    bandwidth_gb_per_s: float
    tflops_16: float
    tflops_8: float
    tops_int8: float
    tflops_4: float
    link: str
    cores: int
    """Addressable parts: NeuronCores, else 1."""

    @property
    def memory_kind(self) -> str:
        """gddr, hbm or neuron."""
        return MEMORY[self.architecture]

    @property
    def neuron(self) -> bool:
        """Whether parallelism counts NeuronCores and shapes are compiled."""
        return self.memory_kind == "neuron"


@functools.cache
def devices() -> Mapping[str, Device]:
    """Every device that can be predicted, by name: the catalogue's and the cousins.

    Raises:
        InputError: a wrong cell in configs/benchmarks/accelerators.csv.
    """
    catalogue = load_catalog().accelerators
    found = {name: _of_catalogue(catalogue[name], kin) for name, kin in ARCHITECTURES.items()}
    problems: list[Problem] = []
    for row in read_table(COUSINS, COUSIN_COLUMNS, problems):
        found[row.name("name")] = _of_cousin(row, found)
    if problems:
        raise InputError(problems)
    return found


def _link(accelerator: Accelerator) -> str:
    kind = accelerator.interconnect_kind.lower()
    for prefix in ("nvlink2", "nvlink3", "nvlink4", "nvlink5"):
        if kind.startswith(prefix):
            return prefix
    if kind.startswith("neuronlink"):
        return "neuronlink3" if kind.endswith("v3") else "neuronlink2"
    if kind.startswith("pcie5"):
        return "pcie5-x16"
    return "pcie4-x8" if kind.startswith("pcie4") else "pcie3-x8"


def _of_catalogue(accelerator: Accelerator, kin: str) -> Device:
    peaks = accelerator.dense_tflops
    half = peaks.get("fp16", 0.0)
    return Device(
        name=accelerator.name,
        architecture=kin,
        memory_gib=accelerator.memory_usable_gib or accelerator.memory_nominal_gib * DRIVER_SHARE,
        bandwidth_gb_per_s=accelerator.memory_bandwidth_gb_per_s or 0.0,
        tflops_16=half,
        tflops_8=peaks.get("fp8", half),
        tops_int8=max(peaks.get("int8", half), half),
        tflops_4=peaks.get("fp4", peaks.get("fp8", half)),
        link=_link(accelerator),
        cores=accelerator.neuron_cores or 1,
    )


def _of_cousin(row: Row, found: Mapping[str, Device]) -> Device:
    like = found[row.choice("like", found)] if row.text("like") in found else next(iter(found.values()))
    row.choice("like", found)
    link = row.text("link") or like.link
    if link not in LINK_GB_PER_S:
        row.choice("link", LINK_GB_PER_S)
    half = row.optional_number("fp16_tflops") or like.tflops_16
    return replace(
        like,
        name=row.name("name"),
        memory_gib=row.optional_number("memory_usable_gib") or like.memory_gib,
        bandwidth_gb_per_s=row.optional_number("memory_bandwidth_gb_per_s") or like.bandwidth_gb_per_s,
        tflops_16=half,
        tflops_8=row.optional_number("fp8_tflops") or half,
        tops_int8=row.optional_number("int8_tops") or half,
        tflops_4=row.optional_number("fp4_tflops") or row.optional_number("fp8_tflops") or half,
        link=link,
    )
