"""Judges one instance type for one pool: every criterion it fails, as data. One function a criterion.

To add one: write a function from Candidate to Reason or None, and name it in CRITERIA where its facts are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llm_fleet.catalog.types import Catalog, InstanceType, Price
from llm_fleet.planning.cost import instances_for, usd_per_month
from llm_fleet.planning.plan import Reason
from llm_fleet.planning.request import PoolRequest
from llm_fleet.sizing.boot import neuron_host_gib
from llm_fleet.sizing.forecast import device_of
from llm_fleet.sizing.serving import Asked, Hardware, ServingPlan, best_plan, serving_plans
from llm_fleet.sizing.traits import model_traits


@dataclass(frozen=True, slots=True)
class Candidate:
    """One type, one pool. `hardware` is None where it cannot be used at all, `splits` are the serving plans by tensor
    parallel degree, and `serving` is the best of them.
    """

    request: PoolRequest
    catalog: Catalog
    instance_type: InstanceType
    price: Price | None
    zone_ids: tuple[str, ...]
    hardware: Hardware | None = None
    splits: tuple[ServingPlan, ...] = ()
    serving: ServingPlan | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is known of one type for one pool. Costs are None where it cannot serve or has no price."""

    candidate: Candidate
    reasons: tuple[Reason, ...]
    instances_expected: int = 0
    usd_per_month: float | None = None

    @property
    def name(self) -> str:
        """The instance type's name."""
        return self.candidate.instance_type.name


Criterion = Callable[[Candidate], Reason | None]


def reason(
    criterion: str,
    needed: float | str,
    available: float | str,
    unit: str,
    text: str,
    margin: float | None = None,
) -> Reason:
    """A reason with its numbers as they are printed; the margin, unless given, is available minus needed."""
    if isinstance(needed, float | int) and isinstance(available, float | int):
        margin = round(available - needed if margin is None else margin, 4)
        needed, available = round(needed, 4), round(available, 4)
    return Reason(criterion=criterion, needed=needed, available=available, margin=margin, unit=unit, text=text)


def still_offered(candidate: Candidate) -> Reason | None:
    """AWS still sells the type."""
    kind = candidate.instance_type
    if kind.status != "retired":
        return None
    text = f"retired: AWS no longer offers {kind.name} (gone {kind.retired_on or kind.as_of})"
    if kind.successor:
        text += f"; instead {kind.successor}"
    return reason("retired", "offered", "retired", "status", text)


def family_allowed(candidate: Candidate) -> Reason | None:
    """The pattern's or the override's list of families names it."""
    families, family = candidate.request.families, candidate.instance_type.family
    if families is None or family in families:
        return None
    return reason(
        "instance_families",
        ", ".join(families),
        family,
        "family",
        f"family {family} is not among {', '.join(families)}",
    )


def architecture_allowed(candidate: Candidate) -> Reason | None:
    """The pattern's list of CPU architectures names it."""
    allowed, own = candidate.request.pool.constraints.architectures, candidate.instance_type.architecture
    if allowed is None or own in allowed:
        return None
    return reason(
        "architecture", ", ".join(allowed), own, "architecture", f"its CPU is {own}, wanted {', '.join(allowed)}"
    )


def region_offers(candidate: Candidate) -> Reason | None:
    """The region, and the zones asked for, offer it."""
    request = candidate.request
    if candidate.zone_ids:
        return None
    zones = request.pool.constraints.zone_ids
    place = f"zones {', '.join(zones)} of {request.region}" if zones else request.region
    return reason("region", place, "not offered", "zones", f"not offered in {place}")


def price_known(candidate: Candidate) -> Reason | None:
    """It has an on-demand price in the region."""
    price, region = candidate.price, candidate.request.region
    if price and price.on_demand_usd_per_hour is not None:
        return None
    block = price.capacity_block_usd_per_hour if price else None
    has = f"capacity block only, {block:g} USD/h" if block else "none"
    return reason(
        "price", f"on-demand price in {region}", has, "USD/h", f"no on-demand price in {region} is known ({has})"
    )


def engine_exists(candidate: Candidate) -> Reason | None:
    """An engine, its AMI and its image run on the type, and the engine serves the model's family."""
    kind, card = candidate.instance_type, candidate.request.card
    engine = candidate.catalog.engine_for(kind)
    if engine is None:
        wanted = "an engine with an AMI for the family"
        text = (
            f"no engine path: no pinned engine and AMI support {kind.family} ({kind.accelerator}, {kind.architecture})"
        )
        return reason("engine", wanted, "none", "engine", text)
    if engine.model_families and card.family not in engine.model_families:
        served = ", ".join(engine.model_families)
        return reason(
            "engine",
            card.family,
            served,
            "model family",
            f"{engine.name} {engine.version} does not serve {card.family} models",
        )
    return None


def precision_supported(candidate: Candidate) -> Reason | None:
    """Hardware and engine together have the weight format; nothing is said where there is no engine."""
    if candidate.catalog.engine_for(candidate.instance_type) is None:
        return None
    accelerator, precision = candidate.instance_type.accelerator, candidate.request.precision
    support = candidate.catalog.precision_support.get((accelerator, precision))
    if support and support.how != "no":
        return None
    note = support.note if support else "not listed for it"
    return reason("precision", precision, "no", "format", f"{precision} does not run on {accelerator}: {note}")


def cache_precision_supported(candidate: Candidate) -> Reason | None:
    """Hardware and engine have the cache's format: an 8-bit cache runs where 8-bit floats are computed."""
    wanted, engine = candidate.request.demand.kv_precision, candidate.catalog.engine_for(candidate.instance_type)
    if wanted == "auto" or engine is None:
        return None
    accelerator = candidate.instance_type.accelerator
    support = candidate.catalog.precision_support.get((accelerator, wanted))
    if engine.vendor == "nvidia" and support and support.how == "native":
        return None
    text = f"a cache in {wanted} does not run on {accelerator} with {engine.name}"
    return reason("kv_precision", wanted, "no", "format", text)


def figures_known(candidate: Candidate) -> Reason | None:
    """Memory, bandwidth and compute of the device are known, and so are its kin: nothing is sized on a guess."""
    accelerator = candidate.catalog.accelerators[candidate.instance_type.accelerator]
    missing = [
        name
        for name, known in (
            ("usable memory", accelerator.memory_usable_gib),
            ("bandwidth", accelerator.memory_bandwidth_gb_per_s),
            ("compute", accelerator.dense_tflops.get("bf16") or accelerator.dense_tflops.get("fp16")),
        )
        if not known
    ]
    if not missing and device_of(candidate.instance_type) is None:
        missing = ["speed"]
    if not missing:
        return None
    text = f"no trustworthy figure for the {', '.join(missing)} of {accelerator.name}"
    return reason("figures", "usable memory, bandwidth, compute", f"without {', '.join(missing)}", "figures", text)


def heads_divide(candidate: Candidate) -> Reason | None:
    """Some tensor parallel degree of the engine divides the model's heads."""
    if candidate.hardware is None or candidate.serving is not None:
        return None
    card, engine = candidate.request.card, candidate.hardware.engine
    degrees = ", ".join(str(degree) for degree in engine.tensor_parallel_degrees)
    text = f"no tensor parallel degree of {engine.name} ({degrees}) divides {card.attention_heads} heads"
    return reason("tensor_parallel", f"a divisor of {card.attention_heads} heads", degrees, "degree", text)


def memory_holds(candidate: Candidate) -> Reason | None:
    """Weights, reserve and one full-length sequence fit on each device."""
    serving, hardware = candidate.serving, candidate.hardware
    if serving is None or hardware is None or serving.fits:
        return None
    usable = serving.memory.usable_gib
    text = (
        f"needs {serving.needed_gib:.1f} GiB on each of {serving.tensor_parallel} "
        f"{'NeuronCores' if hardware.neuron else 'GPUs'}, {usable:.1f} GiB usable"
    )
    return reason("memory", serving.needed_gib, usable, "GiB per device", text)


def host_memory_holds(candidate: Candidate) -> Reason | None:
    """The host can load and compile for Neuron."""
    if candidate.hardware is None or not candidate.hardware.neuron:
        return None
    request = candidate.request
    needed = neuron_host_gib(model_traits(request.card, request.precision).weight_bytes)
    has = candidate.instance_type.memory_gib
    if has >= needed:
        return None
    text = f"loading and compiling takes about {needed:.0f} GiB of host memory, it has {has:g}"
    return reason("host_memory", needed, has, "GiB", text)


def time_per_token_kept(candidate: Candidate) -> Reason | None:
    """A single request keeps the mark on time per output token, at the slow end of the interval."""
    serving, mark = candidate.serving, candidate.request.demand.tpot_mark_ms
    if serving is None or not serving.fits or serving.slow_tpot_ms <= mark:
        return None
    took = _up_to(serving.tpot_ms, serving.slow_tpot_ms)
    text = f"one request takes {took} per output token, the mark is {mark:g}"
    return reason("tpot", serving.slow_tpot_ms, mark, "ms", text)


def first_token_kept(candidate: Candidate) -> Reason | None:
    """A single request keeps the mark on time to first token, at the slow end of the interval."""
    serving, mark = candidate.serving, candidate.request.demand.ttft_mark_ms
    if serving is None or not serving.fits or serving.slow_ttft_unloaded_ms <= mark:
        return None
    took = _up_to(serving.ttft_unloaded_ms, serving.slow_ttft_unloaded_ms)
    text = f"the first token takes {took} without load, the mark is {mark:g}"
    return reason("ttft", serving.slow_ttft_unloaded_ms, mark, "ms", text)


def _up_to(typical: float, slow: float) -> str:
    return f"{typical:.0f} ms" if slow <= typical else f"{typical:.0f} ms (up to {slow:.0f})"


def peak_served(candidate: Candidate) -> Reason | None:
    """The largest pool allowed serves the peak."""
    serving, request = candidate.serving, candidate.request
    if serving is None or not serving.requests_per_s:
        return None
    needed = instances_for(request, serving, request.rates.peak)
    allowed = request.pool.scaling.max_instances
    if needed <= allowed:
        return None
    text = f"the peak of {request.rates.peak:.2f} requests/s takes {needed} instances, at most {allowed} are allowed"
    return reason("max_instances", needed, allowed, "instances", text)


FORECASTABLE: tuple[Criterion, ...] = (
    engine_exists,
    precision_supported,
    cache_precision_supported,
    figures_known,
)
"""Without these there is nothing to forecast."""
FACTS: tuple[Criterion, ...] = (
    still_offered,
    family_allowed,
    architecture_allowed,
    region_offers,
    price_known,
    *FORECASTABLE,
)
"""What is known before anything is forecast."""
CRITERIA: tuple[Criterion, ...] = (
    *FACTS,
    heads_divide,
    memory_holds,
    host_memory_holds,
    time_per_token_kept,
    first_token_kept,
    peak_served,
)


ORDER = (
    *(
        "retired",
        "instance_families",
        "architecture",
        "region",
        "price",
        "engine",
        "precision",
        "kv_precision",
        "figures",
    ),
    *("tensor_parallel", "memory", "host_memory", "tpot", "ttft", "max_instances", "budget"),
)
"""Names of the criteria, from what a user can change least to what follows from all before."""


def assess(request: PoolRequest, catalog: Catalog) -> tuple[Assessment, ...]:
    """Every type of the catalogue, judged for the pool, in the catalogue's order."""
    return assess_many((request,), catalog)[0]


def assess_many(
    requests: Sequence[PoolRequest],
    catalog: Catalog,
    needed: Sequence[Criterion] = FORECASTABLE,
) -> list[tuple[Assessment, ...]]:
    """assess() of many requests, forecast in one pass. Types that fail a criterion of `needed` are not forecast."""
    kinds = tuple(catalog.instance_types.values())
    candidates = [_candidate(request, catalog, kind, needed) for request in requests for kind in kinds]
    usable = [(place, item.hardware) for place, item in enumerate(candidates) if item.hardware]
    asked = [
        Asked(item.request.card, item.request.precision, hardware, item.request.demand)
        for item, hardware in ((candidates[place], hardware) for place, hardware in usable)
    ]
    for (place, _), splits in zip(usable, serving_plans(asked), strict=True):
        if splits:
            candidates[place] = replace(candidates[place], splits=splits, serving=best_plan(splits))
    judged = [_judged(item) for item in candidates]
    return [tuple(judged[start : start + len(kinds)]) for start in range(0, len(judged), len(kinds))]


def _candidate(request: PoolRequest, catalog: Catalog, kind: InstanceType, needed: Sequence[Criterion]) -> Candidate:
    """A type, with its hardware where it meets what is needed, whatever else fails."""
    wanted = request.pool.constraints.zone_ids
    zones = tuple(z for z in catalog.zones(kind.name, request.region) if not wanted or z in wanted)
    candidate = Candidate(request, catalog, kind, catalog.price(kind.name, request.region), zones)
    engine = catalog.engine_for(kind)
    if engine is None or any(criterion(candidate) for criterion in needed):
        return candidate
    return replace(candidate, hardware=Hardware(kind, catalog.accelerators[kind.accelerator], engine))


def _judged(candidate: Candidate) -> Assessment:
    request = candidate.request
    reasons = tuple(found for criterion in CRITERIA if (found := criterion(candidate)))
    serving, price = candidate.serving, candidate.price
    if serving is None or price is None or price.on_demand_usd_per_hour is None or not serving.requests_per_s:
        return Assessment(candidate, reasons)
    assert candidate.hardware is not None
    usd = usd_per_month(request, candidate.hardware, serving, price)
    limit = request.pool.constraints.max_usd_per_month
    if limit is not None and usd > limit:
        text = f"costs {usd:,.0f} USD a month at expected load, the limit is {limit:,.0f}"
        reasons += (reason("budget", usd, limit, "USD/month", text),)
    return Assessment(candidate, reasons, instances_for(request, serving, request.rates.expected), usd)
