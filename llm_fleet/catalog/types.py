"""What EC2 sells for serving models, as frozen values. Units are in the names; None means "not known", never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

Vendor = Literal["nvidia", "neuron", "other"]
Status = Literal["offered", "capacity-block-only", "retired"]
SpotKind = Literal["observed", "derived"]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One kind of device. Compute figures are dense, per device; memory is what the driver reports."""

    name: str
    vendor: Vendor
    product: str
    architecture: str
    compute_capability: float | None
    memory_type: str
    memory_nominal_gib: float
    memory_usable_gib: float | None
    memory_bandwidth_gb_per_s: float | None
    dense_tflops: Mapping[str, float]
    """By number format: fp32, fp16, bf16, fp8, int8, fp4 (int8 in tera-operations). Missing: unsupported or unknown."""
    interconnect_kind: str
    interconnect_gb_per_s: float | None
    """Both directions together, per device."""
    neuron_cores: int | None
    """NeuronCores per device as the engine counts them (Trainium2: logical cores at LNC2); None on a GPU."""
    source: str
    as_of: str
    notes: str = ""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One EC2 instance type with accelerators."""

    name: str
    family: str
    accelerator: str
    accelerator_count: float
    """Devices; a fraction (0.125, 0.25, 0.5) where the type carries a slice of one."""
    accelerator_memory_total_gib: float
    """Nominal: count x nominal memory of the device."""
    vcpus: int
    memory_gib: float
    local_nvme_gb: float
    network_gbps: float
    network_baseline_gbps: float | None
    architecture: Literal["x86_64", "arm64"]
    intra_node_interconnect: str
    intra_node_gb_per_s_per_accelerator: float | None
    current_generation: bool
    usage_classes: tuple[str, ...]
    status: Status
    source: str
    as_of: str
    notes: str = ""
    retired_on: str = ""
    """Month in which a retired type left the offerings."""
    successor: str = ""
    """For a retired type, the offered type that this kit advises instead."""

    @property
    def devices(self) -> int:
        """Devices that an engine can address: a slice counts as one."""
        return max(1, int(self.accelerator_count))

    @property
    def device_fraction(self) -> float:
        """Share of a whole device that each addressable device is: 1.0, or the slice of a G6f."""
        return min(1.0, self.accelerator_count)


@dataclass(frozen=True, slots=True)
class Price:
    """USD per hour of one instance type in one region, Linux, shared tenancy."""

    instance_type: str
    region: str
    on_demand_usd_per_hour: float | None
    spot_usd_per_hour: float | None
    spot_min_usd_per_hour: float | None
    spot_max_usd_per_hour: float | None
    spot_kind: SpotKind | None
    spot_date: str
    reserved_1yr_usd_per_hour: float | None
    capacity_block_usd_per_hour: float | None
    date: date | None
    """Of the on-demand price; a month or a span in the source counts from its first day."""
    source: str
    notes: str = ""
    spot_source: str = ""
    reserved_1yr_source: str = ""
    capacity_block_source: str = ""
    capacity_block_date: str = ""

    def age_days(self, on: date) -> int | None:
        """Days from the on-demand price's date to `on`; None where the price has no date."""
        return (on - self.date).days if self.date else None


@dataclass(frozen=True, slots=True)
class Engine:
    """One serving engine build and what it can run. From configs/catalog/engines.yaml."""

    name: str
    version: str
    image: str
    vendor: Vendor
    accelerators: tuple[str, ...]
    families: tuple[str, ...]
    """Instance families that the engine's AMI supports."""
    architectures: tuple[str, ...]
    tensor_parallel_degrees: tuple[int, ...]
    """Degrees the engine accepts, in devices (NeuronCores on Neuron)."""
    model_families: tuple[str, ...]
    """Model families it serves; empty: all that the kit knows."""
    ami_parameter: Mapping[str, str]
    """SSM parameter of the AMI, by CPU architecture."""
    static_shapes: bool
    """True where batch and length are compiled in (Neuron)."""
    status: str
    """active, or maintenance with its sentence."""
    source: str
    as_of: str
    capabilities: tuple[str, ...] = ()
    """Flags and abilities that this version has and another may lack, e.g. shutdown-timeout, max-num-queued-reqs."""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class PrecisionSupport:
    """Whether an engine runs a weight format on an accelerator, and how. From configs/catalog/precision_support.csv."""

    accelerator: str
    precision: str
    how: Literal["native", "weight-only", "no"]
    """native: computes in the format; weight-only: saves memory, computes in 16 bit; no: refused."""
    note: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures come from. From configs/catalog/sources.csv."""

    key: str
    what: str
    repository: str
    path: str
    version: str
    """Commit or release."""
    date: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything in configs/catalog, loaded and checked."""

    accelerators: Mapping[str, Accelerator]
    instance_types: Mapping[str, InstanceType]
    prices: Mapping[tuple[str, str], Price]
    """By (instance type, region)."""
    zone_ids: Mapping[tuple[str, str], tuple[str, ...]]
    """Availability-zone ids that offer it, by (instance type, region), sorted."""
    engines: tuple[Engine, ...]
    precision_support: Mapping[tuple[str, str], PrecisionSupport]
    """By (accelerator, precision)."""
    date: date
    """Newest date of any on-demand price: how fresh the catalogue is."""
    families: tuple[str, ...] = field(default=())
    regions: tuple[str, ...] = field(default=())
    sources: Mapping[str, Source] = field(default_factory=dict[str, "Source"])
    """What the source keys of the rows stand for."""

    @property
    def collected(self) -> date:
        """The day on which the files were put together: ages of prices count to it, so that a plan needs no clock."""
        return date.fromisoformat(self.sources["catalogue"].date)

    def price(self, instance_type: str, region: str) -> Price | None:
        """The price row, or None where the type has none in the region."""
        return self.prices.get((instance_type, region))

    def zones(self, instance_type: str, region: str) -> tuple[str, ...]:
        """Zone ids that offer the type in the region, sorted; empty where none does."""
        return self.zone_ids.get((instance_type, region), ())

    def region_zones(self, region: str) -> tuple[str, ...]:
        """Every zone id of the region that offers any accelerator type, sorted."""
        found = {zone for (_, r), zones in self.zone_ids.items() if r == region for zone in zones}
        return tuple(sorted(found))

    def engine_for(self, instance_type: InstanceType) -> Engine | None:
        """The engine that runs on this type: accelerator, family (AMI) and CPU architecture must all match."""
        for engine in self.engines:
            if (
                instance_type.accelerator in engine.accelerators
                and instance_type.family in engine.families
                and instance_type.architecture in engine.architectures
            ):
                return engine
        return None
