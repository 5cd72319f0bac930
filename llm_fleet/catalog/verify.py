"""Checks of the catalogue that need the whole picture: figures against figures, files against files.

Each check is a function from the loaded catalogue to problems; `verify` runs them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from llm_fleet.catalog.load import CATALOGUE, FOLDER, SOURCE_COLUMNS, load_catalog
from llm_fleet.catalog.types import Accelerator, Catalog, InstanceType, Price
from llm_fleet.csv_table import read_table
from llm_fleet.errors import Problem
from llm_fleet.models.card import PRECISIONS

MEMORY_TOLERANCE_GIB = 0.05
PRICED_SPREAD = 1e-3
"""Relative room for a spot quote that was rounded up to its on-demand price."""


def verify(folder: Path | None = None) -> tuple[Problem, ...]:
    """Every problem that the checks find in the catalogue of `folder`, by default the kit's own.

    Raises:
        InputError: the files do not even load.
    """
    catalog = load_catalog(folder)
    found = [problem for check in CHECKS for problem in check(catalog)]
    return (*found, *unused_sources(folder or FOLDER))


def memory_adds_up(catalog: Catalog) -> Iterator[Problem]:
    """Nominal memory of a type is its count times the nominal memory of its accelerator."""
    for kind in catalog.instance_types.values():
        device = catalog.accelerators[kind.accelerator]
        expected = kind.accelerator_count * device.memory_nominal_gib
        if abs(expected - kind.accelerator_memory_total_gib) > MEMORY_TOLERANCE_GIB:
            message = f"{kind.accelerator_count:g} x {device.memory_nominal_gib:g} GiB is not its total memory"
            yield _type_problem(kind, message, f"{kind.accelerator_memory_total_gib:g}", f"{expected:g}")


def usable_memory_is_below_nominal(catalog: Catalog) -> Iterator[Problem]:
    """What a driver reports cannot be more than the part has, and says where it was read."""
    for device in catalog.accelerators.values():
        usable = device.memory_usable_gib
        if usable is None:
            continue
        if usable > device.memory_nominal_gib + MEMORY_TOLERANCE_GIB:
            yield _accelerator_problem(device, "usable memory above the nominal", f"{usable:g}")
        if "usable: " not in device.source:
            yield _accelerator_problem(device, "usable memory without a source", f"{usable:g}")


def retired_types_explain_themselves(catalog: Catalog) -> Iterator[Problem]:
    """A retired type has the month it left and an offered successor; no other type has either."""
    for kind in catalog.instance_types.values():
        successor = catalog.instance_types.get(kind.successor)
        if kind.status != "retired":
            if kind.retired_on or kind.successor:
                yield _type_problem(kind, "is not retired but has a month or a successor", kind.retired_on)
        elif not kind.retired_on or successor is None or successor.status != "offered":
            yield _type_problem(kind, "must have the month it left and an offered successor", kind.successor)


def every_type_is_offered_somewhere(catalog: Catalog) -> Iterator[Problem]:
    """A type has a zone, or is retired, or its notes say why it has none; a retired one has none."""
    placed = {name for name, _ in catalog.zone_ids}
    for kind in catalog.instance_types.values():
        if kind.status == "retired" and kind.name in placed:
            yield _type_problem(kind, "is retired but offered in a zone", kind.status)
        if kind.status == "offered" and kind.name not in placed:
            yield _type_problem(kind, "has no zone in availability.csv", kind.status)
        if kind.status == "capacity-block-only" and kind.name not in placed and not kind.notes:
            yield _type_problem(kind, "has no zone and no note that says why", kind.status)


def zones_belong_to_one_region(catalog: Catalog) -> Iterator[Problem]:
    """A row names at least one zone, none twice, and a zone id stands in one region only."""
    region_of: dict[str, str] = {}
    for (name, region), zones in catalog.zone_ids.items():
        if not zones or len(set(zones)) != len(zones):
            yield Problem(f"availability.csv {name} {region}", "needs zones, each once", ";".join(zones))
        for zone in zones:
            if region_of.setdefault(zone, region) != region:
                message = f"zone {zone} stands in {region_of[zone]} too"
                yield Problem(f"availability.csv {name} {region}", message, zone)


def prices_are_positive_and_dated(catalog: Catalog) -> Iterator[Problem]:
    """Every price is above zero and has a date and a source; every row has some price."""
    for price in catalog.prices.values():
        figures = {
            "on_demand": (price.on_demand_usd_per_hour, price.source, price.date),
            "spot": (price.spot_usd_per_hour, price.spot_source, price.spot_date),
            "reserved_1yr": (price.reserved_1yr_usd_per_hour, price.reserved_1yr_source, "as its source"),
            "capacity_block": (
                price.capacity_block_usd_per_hour,
                price.capacity_block_source,
                price.capacity_block_date,
            ),
        }
        if all(usd is None for usd, _, _ in figures.values()):
            yield _price_problem(price, "has no price at all", "")
        for name, (usd, source, day) in figures.items():
            if usd is not None and not (usd > 0 and source and day):
                yield _price_problem(price, f"{name} must be above zero, with source and date", f"{usd:g}")


def dates_are_not_in_the_future_of_the_catalogue(catalog: Catalog) -> Iterator[Problem]:
    """No on-demand price is older than EC2's first accelerators or newer than the newest source."""
    newest = max((source.date for source in catalog.sources.values()), default="")
    for price in catalog.prices.values():
        if price.date and not (date(2010, 11, 15) <= price.date and price.date.isoformat() <= newest):
            yield _price_problem(price, "has an impossible date", price.date.isoformat())


def spot_is_below_on_demand(catalog: Catalog) -> Iterator[Problem]:
    """Spot lies within its own spread and below on-demand, or the notes say why not."""
    for price in catalog.prices.values():
        spot, listed = price.spot_usd_per_hour, price.on_demand_usd_per_hour
        if spot is None:
            continue
        low, high = price.spot_min_usd_per_hour, price.spot_max_usd_per_hour
        if low is not None and high is not None and not low <= spot <= high:
            yield _price_problem(price, "spot lies outside its spread", f"{spot:g}", f"{low:g} to {high:g}")
        if (price.spot_kind == "observed") != (low is not None and high is not None):
            yield _price_problem(price, "an observed spot price has a spread, a derived one has none", f"{spot:g}")
        if listed is not None and spot > listed * (1 + PRICED_SPREAD):
            yield _price_problem(price, "spot is above on-demand", f"{spot:g}", f"below {listed:g}")
        if listed is not None and spot >= listed * (1 - PRICED_SPREAD) and "spot = on-demand" not in price.notes:
            yield _price_problem(price, "spot equals on-demand and no note says why", f"{spot:g}")


def reserved_is_below_on_demand(catalog: Catalog) -> Iterator[Problem]:
    """A one-year price without an on-demand price above it makes no sense."""
    for price in catalog.prices.values():
        reserved, listed = price.reserved_1yr_usd_per_hour, price.on_demand_usd_per_hour
        if reserved is not None and (listed is None or reserved >= listed):
            yield _price_problem(price, "one-year price is not below on-demand", f"{reserved:g}")


def prices_are_of_known_places(catalog: Catalog) -> Iterator[Problem]:
    """A price's region is one of availability.csv, or the notes call it a local zone."""
    for price in catalog.prices.values():
        if price.region not in catalog.regions and "local zone" not in price.notes:
            yield _price_problem(price, "is of an unknown region", price.region, ", ".join(catalog.regions))


def engines_match_their_machines(catalog: Catalog) -> Iterator[Problem]:
    """An engine's families carry its accelerators, its vendor is theirs, and each architecture has an AMI."""
    for engine in catalog.engines:
        where = f"engines.yaml {engine.name}"
        for name in engine.accelerators:
            if catalog.accelerators[name].vendor != engine.vendor:
                yield Problem(where, f"{name} is not of its vendor", engine.vendor, catalog.accelerators[name].vendor)
        for family in engine.families:
            carried = {t.accelerator for t in catalog.instance_types.values() if t.family == family}
            if not carried & set(engine.accelerators):
                yield Problem(where, f"{family} carries none of its accelerators", family, ", ".join(sorted(carried)))
        if set(engine.ami_parameter) != set(engine.architectures):
            yield Problem(where, "must name one AMI parameter for each architecture", ", ".join(engine.ami_parameter))
        for key in engine.source.split(";"):
            if key not in catalog.sources:
                yield Problem(where, "names a source that sources.csv has not", key)


def engine_accelerators_are_complete(catalog: Catalog) -> Iterator[Problem]:
    """An accelerator with an engine has usable memory, bandwidth, 16-bit compute and all precisions."""
    for name in sorted({name for engine in catalog.engines for name in engine.accelerators}):
        device = catalog.accelerators[name]
        missing = [precision for precision in PRECISIONS if (name, precision) not in catalog.precision_support]
        if missing:
            yield Problem(f"precision_support.csv {name}", "has no row for", ", ".join(missing))
        if device.memory_usable_gib is None or device.memory_bandwidth_gb_per_s is None:
            yield _accelerator_problem(device, "has an engine but no usable memory or bandwidth", "")
        if "fp16" not in device.dense_tflops:
            yield _accelerator_problem(device, "has an engine but no 16-bit compute", "")
        if device.vendor == "neuron" and device.neuron_cores is None:
            yield _accelerator_problem(device, "has an engine but no count of NeuronCores", "")


def refused_precisions_say_why(catalog: Catalog) -> Iterator[Problem]:
    """A precision that is refused has a note, which the plan prints."""
    for entry in catalog.precision_support.values():
        if entry.how == "no" and not entry.note:
            yield Problem(f"precision_support.csv {entry.accelerator} {entry.precision}", "is refused without a note")


def unused_sources(folder: Path) -> Iterator[Problem]:
    """A source that no row and no entry names has no business in sources.csv."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(folder.iterdir()) if path.name != "sources.csv")
    for row in read_table(folder / "sources.csv", SOURCE_COLUMNS, []):
        key = row.text("key")
        if key != CATALOGUE and not re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", text):
            yield Problem(row.where("key"), "is named by no figure", key)


CHECKS = (
    memory_adds_up,
    usable_memory_is_below_nominal,
    retired_types_explain_themselves,
    every_type_is_offered_somewhere,
    zones_belong_to_one_region,
    prices_are_positive_and_dated,
    dates_are_not_in_the_future_of_the_catalogue,
    spot_is_below_on_demand,
    reserved_is_below_on_demand,
    prices_are_of_known_places,
    engines_match_their_machines,
    engine_accelerators_are_complete,
    refused_precisions_say_why,
)


def _type_problem(kind: InstanceType, message: str, value: str, allowed: str = "") -> Problem:
    return Problem(f"instance_types.csv {kind.name}", message, value, allowed)


def _accelerator_problem(device: Accelerator, message: str, value: str) -> Problem:
    return Problem(f"accelerators.csv {device.name}", message, value)


def _price_problem(price: Price, message: str, value: str, allowed: str = "") -> Problem:
    return Problem(f"prices.csv {price.instance_type} {price.region}", message, value, allowed)
