"""Sentences a user must read before deploying. Each function looks for one thing; none changes the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from llm_fleet.catalog.types import Catalog
from llm_fleet.patterns.schema import Pattern
from llm_fleet.patterns.words import IMAGE_NONE
from llm_fleet.planning.choosing import Chosen
from llm_fleet.planning.criteria import Assessment
from llm_fleet.planning.request import PoolRequest

OLD_PRICE_DAYS = 90


def pool_cautions(
    request: PoolRequest, chosen: Chosen, assessments: Sequence[Assessment], catalog: Catalog
) -> Iterator[str]:
    """All cautions of one pool."""
    yield from request.notes
    yield from _old_prices(request, chosen, catalog.collected)
    yield from _spot_estimates(request, chosen)
    yield from _one_type_on_spot(request, chosen)
    yield from _maintenance(request, chosen, catalog)
    yield from _cheaper_outside_families(request, chosen, assessments)
    yield from _weights(request)


def _old_prices(request: PoolRequest, chosen: Chosen, today: date) -> Iterator[str]:
    """Ages count to the day the catalogue was collected, not to today: the same input gives the same plan."""
    ages = {
        entry.name: (today - entry.price.date).days
        for entry in chosen.choices
        if entry.price.date and (today - entry.price.date).days > OLD_PRICE_DAYS
    }
    if ages:
        oldest = max(ages, key=lambda name: (ages[name], name))
        yield (
            f"{len(ages)} of {len(chosen.choices)} prices were older than "
            f"{OLD_PRICE_DAYS} days when the catalogue was "
            f"collected ({today}); the oldest is {oldest}, {ages[oldest]} days. Refresh them before you commit money."
        )


def _spot_estimates(request: PoolRequest, chosen: Chosen) -> Iterator[str]:
    if request.mix.spot_percent == 0:
        return
    derived = [entry.name for entry in chosen.choices if entry.price.spot_kind == "derived"]
    unknown = [entry.name for entry in chosen.choices if entry.price.spot_usd_per_hour is None]
    if derived:
        yield f"the spot price of {', '.join(derived)} is derived from an old saving, not observed."
    if unknown:
        yield f"no spot price of {', '.join(unknown)} is known; spot counts at the on-demand price."


def _one_type_on_spot(request: PoolRequest, chosen: Chosen) -> Iterator[str]:
    if request.mix.spot_percent and len(chosen.choices) == 1:
        name = chosen.choices[0].name
        yield f"{name} is the only type of the group: when its spot is dry, nothing takes over but on-demand."


def _maintenance(request: PoolRequest, chosen: Chosen, catalog: Catalog) -> Iterator[str]:
    engine = chosen.choices[0].hardware.engine
    if not engine.status.startswith("maintenance"):
        return
    sentence = f"{engine.name} {engine.version} is in {engine.status}"
    others = [e for e in catalog.engines if e.vendor == engine.vendor and not e.status.startswith("maintenance")]
    names = [
        kind.name
        for kind in catalog.instance_types.values()
        if any(kind.accelerator in other.accelerators for other in others) and kind.status == "offered"
    ]
    offers = [_offer(catalog, name, request.region) for name in names]
    yield f"{sentence.rstrip('.')}. The alternative: {'; '.join(offers)}." if offers else sentence


def _offer(catalog: Catalog, name: str, region: str) -> str:
    price = catalog.price(name, region)
    where = region if catalog.zones(name, region) else f"not offered in {region}"
    if price is None:
        return f"{name} ({where}, no price known)"
    if price.on_demand_usd_per_hour is not None:
        return f"{name} ({where}, {price.on_demand_usd_per_hour:g} USD/h on demand)"
    block = price.capacity_block_usd_per_hour
    return f"{name} ({where}, {f'{block:g} USD/h by capacity block' if block else 'no price known'})"


def _cheaper_outside_families(request: PoolRequest, chosen: Chosen, assessments: Sequence[Assessment]) -> Iterator[str]:
    """A type that only the list of families keeps out, and that would cost less."""
    best = chosen.choices[0]
    outside = [
        (item.usd_per_month, item.name)
        for item in assessments
        if item.usd_per_month is not None and {reason.criterion for reason in item.reasons} == {"instance_families"}
    ]
    if outside and min(outside)[0] < best.usd_per_month:
        usd, name = min(outside)
        yield (
            f"only the limit to {', '.join(request.families or ())} keeps out {name}, "
            f"which would cost {usd:,.0f} USD a month "
            f"instead of {best.usd_per_month:,.0f} for {best.name} (instances only)."
        )


def _weights(request: PoolRequest) -> Iterator[str]:
    weights = request.weights
    if weights.repository is None:
        yield (
            f"no {request.precision} checkpoint of {request.card.name} is known: instances would refuse to start "
            "until the pattern's weights.repository names one."
        )
    elif weights.revision is None:
        yield f"the commit of {weights.repository} is not pinned (weights.revision); the first boot takes the newest."
    if weights.gated:
        yield f"{request.card.name} is gated: put a Hub token into the secret {weights.token_secret_name}."


def deployment_cautions(pattern: Pattern, gateway_image: str) -> Iterator[str]:
    """Cautions of the deployment as a whole."""
    if gateway_image == IMAGE_NONE:
        yield "gateway: image is none, so the service stands at zero tasks and instances run no worker."
    if pattern.deploy.gateway.certificate_arn is None:
        yield "gateway: no certificate is given, so it speaks HTTP inside the VPC only."
    if not any(pool.ami_id for pool in pattern.pools.values()):
        yield "AMI: no id is pinned (ami_id); instances take the newest of the SSM parameter."
