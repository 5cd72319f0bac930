"""`llm-fleet catalog`: every fact of one instance type with source and date, a table of all types, and the checks."""

from __future__ import annotations

from collections.abc import Iterator

from llm_fleet.catalog import Catalog, InstanceType, Price, load_catalog
from llm_fleet.catalog.verify import CHECKS, verify
from llm_fleet.errors import InputError, Problem, unknown_choice
from llm_fleet.report.table import table

Line = tuple[str, str, str]
"""What, figure with unit, source and date."""


def show(instance_type: str | None, region: str) -> str:
    """One type with all its facts, or a table of all types, with the prices and zones of a region.

    Raises:
        InputError: the type or the region is not in the catalogue.
    """
    catalog = load_catalog()
    problems: list[Problem] = []
    if instance_type is not None and instance_type not in catalog.instance_types:
        problems.append(unknown_choice("catalog show", "instance type", instance_type, catalog.instance_types))
    if region not in catalog.regions:
        problems.append(unknown_choice("--region", "region", region, catalog.regions))
    if problems:
        raise InputError(problems)
    if instance_type is None:
        return _all_types(catalog, region)
    return _one_type(catalog, catalog.instance_types[instance_type], region)


def verify_text() -> tuple[str, int]:
    """The problems found by the catalogue's checks, one a line, and the exit code: 1 where there are any.

    Raises:
        InputError: the files do not load.
    """
    problems = verify()
    if problems:
        return "\n".join([*(str(problem) for problem in problems), f"{len(problems)} problems"]), 1
    catalog = load_catalog()
    counts = (
        f"{len(catalog.instance_types)} instance types, {len(catalog.accelerators)} accelerators, "
        f"{len(catalog.prices)} prices, {len(catalog.zone_ids)} offerings in {len(catalog.regions)} regions"
    )
    return f"{counts}: {len(CHECKS) + 1} checks, no problem. Newest price: {catalog.date}.", 0


def _all_types(catalog: Catalog, region: str) -> str:
    header = ("type", "accelerators", "GiB", "vCPU", "RAM GiB", "on-demand", "spot", "zones", "engine")
    rows = [_type_row(catalog, kind, region) for kind in catalog.instance_types.values()]
    note = f"Usable GiB of all accelerators, USD per hour and zones in {region}; - is not known or not offered."
    return f"{table(header, rows)}\n\n{note}"


def _type_row(catalog: Catalog, kind: InstanceType, region: str) -> tuple[str, ...]:
    price = catalog.price(kind.name, region)
    usable = catalog.accelerators[kind.accelerator].memory_usable_gib
    engine = catalog.engine_for(kind)
    return (
        kind.name,
        f"{kind.accelerator_count:g} x {kind.accelerator}",
        _number(usable * kind.accelerator_count if usable else None, ".1f"),
        str(kind.vcpus),
        f"{kind.memory_gib:g}",
        _number(price.on_demand_usd_per_hour if price else None, ".4f"),
        _number(price.spot_usd_per_hour if price else None, ".4f"),
        str(len(catalog.zones(kind.name, region))) if kind.status == "offered" else kind.status,
        engine.name if engine else "-",
    )


def _one_type(catalog: Catalog, kind: InstanceType, region: str) -> str:
    lines = [*_type_lines(kind), *_accelerator_lines(catalog, kind), *_price_lines(catalog, kind, region)]
    lines += _engine_lines(catalog, kind)
    parts = [kind.name]
    if kind.status == "retired":
        parts.append(f"Retired: {kind.notes} Instead: {kind.successor}.")
    elif kind.notes:
        parts.append(kind.notes)
    parts.append(table(("fact", "value", "source and date"), lines))
    parts.append("Sources:\n" + "\n".join(_sources_named(catalog, lines)))
    return "\n\n".join(parts)


def _type_lines(kind: InstanceType) -> Iterator[Line]:
    origin = f"{kind.source}, {kind.as_of}"
    baseline = kind.network_baseline_gbps
    steady = f", {baseline:g} sustained" if baseline is not None and baseline != kind.network_gbps else ""
    nvme = f"{kind.local_nvme_gb:g} GB" if kind.local_nvme_gb else "none (EBS only)"
    yield "accelerators", f"{kind.accelerator_count:g} x {kind.accelerator}", origin
    yield "nominal memory in all", f"{kind.accelerator_memory_total_gib:g} GiB", origin
    yield "CPU", f"{kind.vcpus} vCPU, {kind.architecture}", origin
    yield "host memory", f"{kind.memory_gib:g} GiB", origin
    yield "local NVMe", nvme, origin
    yield "network", f"{kind.network_gbps:g} Gbit/s{steady}", origin
    yield "between accelerators", _link(kind), origin
    yield "purchase", ", ".join(kind.usage_classes) or "-", origin
    yield "status", kind.status + ("" if kind.current_generation else ", previous generation"), origin


def _link(kind: InstanceType) -> str:
    speed = kind.intra_node_gb_per_s_per_accelerator
    return kind.intra_node_interconnect + (f", {speed:g} GB/s each, both directions" if speed else "")


def _accelerator_lines(catalog: Catalog, kind: InstanceType) -> Iterator[Line]:
    device = catalog.accelerators[kind.accelerator]
    origins = dict(part.split(": ", 1) for part in device.source.split(" | "))

    def origin(figure: str) -> str:
        return f"{origins[figure]}, {device.as_of}" if figure in origins else "-"

    usable = f"{device.memory_usable_gib:g} GiB" if device.memory_usable_gib else "-"
    peaks = ", ".join(f"{precision} {value:g}" for precision, value in device.dense_tflops.items())
    yield "one accelerator", f"{device.product} ({device.architecture})", origin("nominal")
    yield "its memory", f"{device.memory_nominal_gib:g} GiB {device.memory_type}".strip(), origin("nominal")
    yield "its usable memory", usable, origin("usable")
    yield "its bandwidth", _number(device.memory_bandwidth_gb_per_s, "g", " GB/s"), origin("bandwidth")
    yield "its dense peaks, T/s", peaks or "-", origin("compute")
    link = _number(device.interconnect_gb_per_s, "g", " GB/s")
    yield "its link", f"{device.interconnect_kind}, {link}", origin("interconnect")


def _price_lines(catalog: Catalog, kind: InstanceType, region: str) -> Iterator[Line]:
    zones = catalog.zones(kind.name, region)
    yield f"zones in {region}", ", ".join(zones) or "not offered", "moto-offerings"
    price = catalog.price(kind.name, region)
    if price is None:
        yield f"prices in {region}", "none known", "-"
        return
    yield "on-demand", _usd(price.on_demand_usd_per_hour), _origin(price.source, str(price.date or "-"))
    yield "spot", _spot(price), _origin(price.spot_source, price.spot_date)
    reserved_source = catalog.sources.get(price.reserved_1yr_source)
    reserved_date = reserved_source.date if reserved_source else ""
    yield "one year reserved", _usd(price.reserved_1yr_usd_per_hour), _origin(price.reserved_1yr_source, reserved_date)
    block = _origin(price.capacity_block_source, price.capacity_block_date)
    yield "capacity block", _usd(price.capacity_block_usd_per_hour), block
    if price.notes:
        yield "note on the price", price.notes, "-"


def _engine_lines(catalog: Catalog, kind: InstanceType) -> Iterator[Line]:
    engine = catalog.engine_for(kind)
    if engine is None:
        yield "engine", "none for this accelerator, family and architecture", "-"
        return
    yield "engine", f"{engine.name} {engine.version}", f"{engine.source.replace(';', ', ')}, {engine.as_of}"
    yield "engine status", engine.status, "-"
    for how in ("native", "weight-only", "no"):
        entries = [e for e in catalog.precision_support.values() if e.accelerator == kind.accelerator and e.how == how]
        if entries:
            yield f"weights: {how}", ", ".join(entry.precision for entry in entries), "-"


def _spot(price: Price) -> str:
    low, high = price.spot_min_usd_per_hour, price.spot_max_usd_per_hour
    spread = f", {low:g} to {high:g} over the zones" if low is not None and high is not None else ""
    kind = f" ({price.spot_kind}{spread})" if price.spot_kind else ""
    return _usd(price.spot_usd_per_hour) + kind


def _sources_named(catalog: Catalog, lines: list[Line]) -> Iterator[str]:
    """What each source key of the shown lines stands for."""
    named = {key.strip() for _, _, origin in lines for key in origin.split(",")}
    for key in sorted(named & set(catalog.sources)):
        source = catalog.sources[key]
        place = " ".join(word for word in (source.repository, source.path, source.version, source.date) if word)
        yield f"  {key}: {source.what} ({place})"


def _origin(source: str, day: str) -> str:
    return ", ".join(word for word in (source, day) if word) if source else "-"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:g} USD/h"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
