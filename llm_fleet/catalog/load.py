"""Loads configs/catalog into frozen values.

Checks what can be seen cell by cell and key by key: types, ranges, names that other files must know. What needs the
whole picture is in verify.py.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import cast

from llm_fleet.catalog.fields import Fields
from llm_fleet.catalog.types import (
    Accelerator,
    Catalog,
    Engine,
    InstanceType,
    PrecisionSupport,
    Price,
    Source,
    SpotKind,
    Status,
    Vendor,
)
from llm_fleet.csv_table import Row, read_table
from llm_fleet.documents import CONFIGS, Document, read_yaml, shown_path
from llm_fleet.errors import InputError, Problem
from llm_fleet.models.card import PRECISIONS

FOLDER = CONFIGS / "catalog"
CATALOGUE = "catalogue"
"""Key of the source row that dates the files themselves."""
VENDORS = ("nvidia", "neuron", "other")
STATUSES = ("offered", "capacity-block-only", "retired")
ARCHITECTURES = ("x86_64", "arm64")
USAGE_CLASSES = ("on-demand", "spot", "capacity-block")
TFLOPS_COLUMNS = {
    f"{f}_{'tops' if f == 'int8' else 'tflops'}": f for f in ("fp32", "fp16", "bf16", "fp8", "int8", "fp4")
}
ACCELERATOR_SOURCES = ("nominal_source", "usable_source", "bandwidth_source", "compute_source", "interconnect_source")

SOURCE_COLUMNS = ("key", "what", "repository", "path", "version", "date")
ACCELERATOR_COLUMNS = (
    *("name", "vendor", "product", "architecture", "compute_capability", "memory_type", "memory_nominal_gib"),
    *("memory_usable_gib", "memory_bandwidth_gb_per_s", *TFLOPS_COLUMNS, "interconnect_kind", "interconnect_gb_per_s"),
    *("neuron_cores", *ACCELERATOR_SOURCES, "as_of", "notes"),
)
TYPE_COLUMNS = (
    *("instance_type", "family", "accelerator", "accelerator_count", "accelerator_memory_total_gib", "vcpus"),
    *("memory_gib", "local_nvme_gb", "network_gbps", "network_baseline_gbps", "architecture"),
    *("intra_node_interconnect", "intra_node_gb_per_s_per_accelerator", "current_generation", "usage_classes"),
    *("status", "retired_on", "successor", "source", "as_of", "notes"),
)
PRICE_COLUMNS = (
    *("instance_type", "region", "on_demand_usd_per_hour", "on_demand_date", "on_demand_source"),
    *("spot_usd_per_hour", "spot_min_usd_per_hour", "spot_max_usd_per_hour", "spot_kind", "spot_date", "spot_source"),
    *("reserved_1yr_usd_per_hour", "reserved_source"),
    *("capacity_block_usd_per_hour", "capacity_block_date", "capacity_block_source", "notes"),
)
AVAILABILITY_COLUMNS = ("instance_type", "region", "zone_ids", "source", "as_of", "notes")
PRECISION_COLUMNS = ("accelerator", "precision", "how", "source", "note")
ENGINE_KEYS = (
    *("version", "image", "vendor", "accelerators", "families", "architectures", "tensor_parallel_degrees"),
    *("model_families", "ami_parameter", "static_shapes", "status", "capabilities", "source", "as_of", "notes"),
)


def load_catalog(folder: Path | None = None) -> Catalog:
    """The catalogue in `folder`, by default the one that comes with the kit (read once per process).

    Raises:
        InputError: every problem of every file, each with file, line and column or key.
    """
    return _default_catalog() if folder is None else _load(folder)


@functools.cache
def _default_catalog() -> Catalog:
    return _load(FOLDER)


def _load(folder: Path) -> Catalog:
    problems: list[Problem] = []
    sources = _sources(folder, problems)
    accelerators = _accelerators(folder, problems, sources)
    types = _instance_types(folder, problems, sources, accelerators)
    prices = _prices(folder, problems, sources, types)
    zone_ids = _availability(folder, problems, sources, types)
    engines = _engines(folder, problems, accelerators, {t.family for t in types.values()})
    support = _precision_support(folder, problems, sources, accelerators)
    if problems:
        raise InputError(problems)
    return Catalog(
        accelerators=accelerators,
        instance_types=types,
        prices=prices,
        zone_ids=zone_ids,
        engines=engines,
        precision_support=support,
        date=max((p.date for p in prices.values() if p.date), default=date.min),
        families=tuple(sorted({t.family for t in types.values()})),
        regions=tuple(sorted({region for _, region in zone_ids})),
        sources=sources,
    )


def _rows(folder: Path, name: str, columns: Sequence[str], key: Sequence[str], problems: list[Problem]) -> list[Row]:
    """Rows of a table; two rows with the same key are a problem."""
    seen: dict[tuple[str, ...], Row] = {}
    rows = list(read_table(folder / name, columns, problems))
    for row in rows:
        words = tuple(row.name(column) for column in key)
        if words in seen:
            row.report(key[-1], f"stands twice; first in {seen[words].where()}")
        seen.setdefault(words, row)
    return rows


def _sources(folder: Path, problems: list[Problem]) -> dict[str, Source]:
    rows = _rows(folder, "sources.csv", SOURCE_COLUMNS, ("key",), problems)
    dated = [row for row in rows if row.text("key") == CATALOGUE and row.day("date") and len(row.text("date")) == 10]
    if rows and not dated:
        where = f"{shown_path(folder / 'sources.csv')} {CATALOGUE}"
        problems.append(Problem(where, "no row says on which day the catalogue was put together", "", "2026-11-24"))
    return {row.text("key"): Source(*(row.text(column) for column in SOURCE_COLUMNS)) for row in rows}


def _accelerators(folder: Path, problems: list[Problem], sources: Collection[str]) -> dict[str, Accelerator]:
    rows = _rows(folder, "accelerators.csv", ACCELERATOR_COLUMNS, ("name",), problems)
    return {row.text("name"): _accelerator(row, sources) for row in rows}


def _accelerator(row: Row, sources: Collection[str]) -> Accelerator:
    tflops = {key: row.optional_number(column) for column, key in TFLOPS_COLUMNS.items()}
    keys = {column.removesuffix("_source"): row.names(column, sources, "source") for column in ACCELERATOR_SOURCES}
    return Accelerator(
        name=row.text("name"),
        vendor=cast(Vendor, row.choice("vendor", VENDORS)),
        product=row.text("product"),
        architecture=row.text("architecture"),
        compute_capability=row.optional_number("compute_capability"),
        memory_type=row.text("memory_type"),
        memory_nominal_gib=row.number("memory_nominal_gib", at_least=1),
        memory_usable_gib=row.optional_number("memory_usable_gib", at_least=1),
        memory_bandwidth_gb_per_s=row.optional_number("memory_bandwidth_gb_per_s", at_least=1),
        dense_tflops={key: value for key, value in tflops.items() if value is not None},
        interconnect_kind=row.text("interconnect_kind"),
        interconnect_gb_per_s=row.optional_number("interconnect_gb_per_s"),
        neuron_cores=row.optional_integer("neuron_cores", at_least=1),
        source=" | ".join(f"{figure}: {', '.join(found)}" for figure, found in keys.items() if found),
        as_of=row.name("as_of"),
        notes=row.text("notes"),
    )


def _instance_types(
    folder: Path, problems: list[Problem], sources: Collection[str], accelerators: Collection[str]
) -> dict[str, InstanceType]:
    rows = _rows(folder, "instance_types.csv", TYPE_COLUMNS, ("instance_type",), problems)
    return {row.text("instance_type"): _instance_type(row, sources, accelerators) for row in rows}


def _instance_type(row: Row, sources: Collection[str], accelerators: Collection[str]) -> InstanceType:
    return InstanceType(
        name=row.text("instance_type"),
        family=row.choice("family", (row.text("instance_type").partition(".")[0],), "family"),
        accelerator=row.choice("accelerator", accelerators, "accelerator"),
        accelerator_count=row.number("accelerator_count", at_least=0.01),
        accelerator_memory_total_gib=row.number("accelerator_memory_total_gib", at_least=1),
        vcpus=row.integer("vcpus", at_least=1),
        memory_gib=row.number("memory_gib", at_least=1),
        local_nvme_gb=row.number("local_nvme_gb"),
        network_gbps=row.number("network_gbps"),
        network_baseline_gbps=row.optional_number("network_baseline_gbps"),
        architecture="arm64" if row.choice("architecture", ARCHITECTURES) == "arm64" else "x86_64",
        intra_node_interconnect=row.text("intra_node_interconnect"),
        intra_node_gb_per_s_per_accelerator=row.optional_number("intra_node_gb_per_s_per_accelerator"),
        current_generation=row.flag("current_generation"),
        usage_classes=row.names("usage_classes", USAGE_CLASSES),
        status=cast(Status, row.choice("status", STATUSES)),
        source=", ".join(row.names("source", sources, "source")),
        as_of=row.name("as_of"),
        notes=row.text("notes"),
        retired_on=row.text("retired_on"),
        successor=row.text("successor"),
    )


def _prices(
    folder: Path, problems: list[Problem], sources: Collection[str], types: Collection[str]
) -> dict[tuple[str, str], Price]:
    rows = _rows(folder, "prices.csv", PRICE_COLUMNS, ("instance_type", "region"), problems)
    known_sources = {*sources, ""}
    return {(row.text("instance_type"), row.text("region")): _price(row, known_sources, types) for row in rows}


def _price(row: Row, sources: Collection[str], types: Collection[str]) -> Price:
    spot_kind = row.choice("spot_kind", ("observed", "derived", ""))
    return Price(
        instance_type=row.choice("instance_type", types, "instance type"),
        region=row.text("region"),
        on_demand_usd_per_hour=row.optional_number("on_demand_usd_per_hour"),
        spot_usd_per_hour=row.optional_number("spot_usd_per_hour"),
        spot_min_usd_per_hour=row.optional_number("spot_min_usd_per_hour"),
        spot_max_usd_per_hour=row.optional_number("spot_max_usd_per_hour"),
        spot_kind=cast(SpotKind, spot_kind) if spot_kind else None,
        spot_date=row.text("spot_date"),
        reserved_1yr_usd_per_hour=row.optional_number("reserved_1yr_usd_per_hour"),
        capacity_block_usd_per_hour=row.optional_number("capacity_block_usd_per_hour"),
        date=row.day("on_demand_date"),
        source=row.choice("on_demand_source", sources, "source"),
        notes=row.text("notes"),
        spot_source=row.choice("spot_source", sources, "source"),
        reserved_1yr_source=row.choice("reserved_source", sources, "source"),
        capacity_block_source=row.choice("capacity_block_source", sources, "source"),
        capacity_block_date=row.text("capacity_block_date"),
    )


def _availability(
    folder: Path, problems: list[Problem], sources: Collection[str], types: Collection[str]
) -> dict[tuple[str, str], tuple[str, ...]]:
    rows = _rows(folder, "availability.csv", AVAILABILITY_COLUMNS, ("instance_type", "region"), problems)
    zones: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in rows:
        row.choice("source", sources, "source")
        name = row.choice("instance_type", types, "instance type")
        zones[name, row.text("region")] = tuple(sorted(row.names("zone_ids")))
    return zones


def _precision_support(
    folder: Path, problems: list[Problem], sources: Collection[str], accelerators: Collection[str]
) -> dict[tuple[str, str], PrecisionSupport]:
    rows = _rows(folder, "precision_support.csv", PRECISION_COLUMNS, ("accelerator", "precision"), problems)
    support: dict[tuple[str, str], PrecisionSupport] = {}
    for row in rows:
        row.names("source", sources, "source")
        how = row.choice("how", ("native", "weight-only", "no"))
        entry = PrecisionSupport(
            accelerator=row.choice("accelerator", accelerators, "accelerator"),
            precision=row.choice("precision", PRECISIONS, "precision"),
            how="native" if how == "native" else "weight-only" if how == "weight-only" else "no",
            note=row.text("note"),
        )
        support[entry.accelerator, entry.precision] = entry
    return support


def _yaml(folder: Path, name: str, problems: list[Problem]) -> Document | None:
    try:
        return read_yaml(folder / name)
    except InputError as error:
        problems.extend(error.problems)
        return None


def _engines(
    folder: Path, problems: list[Problem], accelerators: Collection[str], families: Collection[str]
) -> tuple[Engine, ...]:
    document = _yaml(folder, "engines.yaml", problems)
    if document is None:
        return ()
    fields = {name: Fields(document, name, ENGINE_KEYS, problems) for name in document.data}
    return tuple(_engine(name, read, accelerators, families) for name, read in fields.items())


def _engine(name: str, fields: Fields, accelerators: Collection[str], families: Collection[str]) -> Engine:
    return Engine(
        name=name,
        version=fields.text("version"),
        image=fields.text("image"),
        vendor=cast(Vendor, fields.choice("vendor", VENDORS)),
        accelerators=fields.names("accelerators", accelerators),
        families=fields.names("families", families),
        architectures=fields.names("architectures", ARCHITECTURES),
        tensor_parallel_degrees=fields.degrees("tensor_parallel_degrees"),
        model_families=fields.names("model_families"),
        ami_parameter=fields.texts("ami_parameter", ARCHITECTURES),
        static_shapes=fields.flag("static_shapes"),
        status=fields.text("status"),
        source=fields.text("source"),
        as_of=fields.text("as_of"),
        capabilities=fields.names("capabilities"),
        notes=fields.text("notes", default=""),
    )
