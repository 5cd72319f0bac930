"""Changes that are the user's to make: a smaller format, a smaller sibling, a shorter context, a smaller cache, and the
first two together. Each is planned like the pool itself; the plan says what it would save and what it costs in quality.
None is taken without being asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llm_fleet.catalog.types import Catalog
from llm_fleet.guide.tables import OPTIMIZATION_TECHNIQUES
from llm_fleet.models import ModelLibrary
from llm_fleet.planning.choosing import Ranked, rank, what_excludes
from llm_fleet.planning.criteria import FACTS, Assessment, assess_many
from llm_fleet.planning.plan import Boldness, Lever, LeverKind
from llm_fleet.planning.request import PoolRequest, allowed_precisions
from llm_fleet.sizing.traits import BITS_PER_WEIGHT

SIBLINGS = 2
"""Smaller models of the family that are tried, the nearest first."""
CONTEXT_HEADROOM = 2
"""A shorter context still holds this many times the mean request."""
ARTICLE = "article, no evaluation named"
UNKNOWN = "unknown, evaluate it on your prompts"
QUALITY_OF_PRECISION = {
    name: 100 - OPTIMIZATION_TECHNIQUES[f"quantization {name}"].quality_percent for name in ("int8", "int4")
}
QUALITY_OF_SIBLING = OPTIMIZATION_TECHNIQUES["distillation 7b to 3b"].quality_percent
SIBLING_SOURCE = "article, of distilling 7B to 3B"


@dataclass(frozen=True, slots=True)
class _Change:
    """One lever before it is planned. Quality is the share retained, in percent."""

    kind: LeverKind
    words: str
    how: str
    request: PoolRequest
    quality: float | None
    source: str
    note: str = ""


def boldly(request: PoolRequest, catalog: Catalog) -> tuple[Ranked, ...]:
    """The types that can serve when typical predictions are trusted, cheapest first."""
    bold = replace(request, demand=replace(request.demand, cautious=False))
    return rank(assess_many((bold,), catalog, needed=FACTS)[0])


def boldness(request: PoolRequest, catalog: Catalog, usd_per_month: float) -> Boldness:
    """The cheapest type when capacity is bought by typical predictions, and what that saves."""
    best = boldly(request, catalog)[0]
    return Boldness(
        instance_type=best.name,
        instances_at_expected_load=best.assessment.instances_expected,
        usd_per_month=round(best.usd_per_month, 2),
        saves_usd_per_month=round(usd_per_month - best.usd_per_month, 2),
    )


def levers(request: PoolRequest, catalog: Catalog, models: ModelLibrary, usd_per_month: float) -> tuple[Lever, ...]:
    """Every lever of the pool, the largest saving first; of pairs the best one, where it saves more than any alone."""
    singles = [*_precisions(request), *_siblings(request, models), *_contexts(request), *_caches(request)]
    pairs = [
        _together(sibling, smaller)
        for sibling in singles
        if sibling.kind == "model"
        for smaller in _precisions(sibling.request)
    ]
    changes = [*singles, *pairs]
    judged = assess_many([change.request for change in changes], catalog, needed=FACTS)
    found = [_lever(change, types, usd_per_month) for change, types in zip(changes, judged, strict=True)]
    alone = [one for one in found if one.kind != "together"]
    most = max((one.saves_usd_per_month or 0.0 for one in alone), default=0.0)
    paired = [one for one in found if one.kind == "together" and (one.saves_usd_per_month or 0.0) > most]
    return tuple(sorted([*alone, *sorted(paired, key=_order)[:1]], key=_order))


def _order(lever: Lever) -> tuple[bool, float]:
    return lever.saves_usd_per_month is None, -(lever.saves_usd_per_month or 0.0)


def _precisions(request: PoolRequest) -> Iterator[_Change]:
    """Formats of fewer bits that the model is served in."""
    card, own = request.card, request.precision
    for precision in allowed_precisions(card):
        if BITS_PER_WEIGHT[precision] > BITS_PER_WEIGHT[own] - 1:
            continue
        quality = QUALITY_OF_PRECISION.get(precision) if BITS_PER_WEIGHT[own] >= 16 else None
        published = precision in card.checkpoints or precision == "fp8"
        yield _Change(
            *("precision", f"{own} -> {precision}", f"-c precision={precision}"),
            replace(request, precision=precision),
            quality,
            ARTICLE if quality else UNKNOWN,
            "" if published else f"no {precision} checkpoint is known: weights.repository must name one",
        )


def _siblings(request: PoolRequest, models: ModelLibrary) -> Iterator[_Change]:
    """The next smaller models of the family that hold the context."""
    card = request.card
    smaller = sorted(
        (
            other
            for other in models.cards.values()
            if other.family == card.family
            and other.params_total_billion < 0.9 * card.params_total_billion
            and other.max_context_tokens >= request.demand.max_model_len_tokens
        ),
        key=lambda other: -other.params_total_billion,
    )
    for other in smaller[:SIBLINGS]:
        precision = request.precision if request.precision in allowed_precisions(other) else other.native_precision
        yield _Change(
            *("model", f"{card.name} -> {other.name}", f"-c model={other.name}"),
            replace(request, card=other, precision=precision),
            QUALITY_OF_SIBLING,
            SIBLING_SOURCE,
        )


def _contexts(request: PoolRequest) -> Iterator[_Change]:
    """The smallest power of two that still holds some mean requests."""
    demand = request.demand
    shorter = 1 << (CONTEXT_HEADROOM * demand.sequence_tokens - 1).bit_length()
    if shorter < demand.max_model_len_tokens:
        yield _Change(
            *("context", f"{demand.max_model_len_tokens} -> {shorter} tokens", f"max_model_len_tokens: {shorter}"),
            replace(request, demand=replace(demand, max_model_len_tokens=shorter)),
            None,
            f"none within {shorter} tokens; longer requests are refused",
        )


def _caches(request: PoolRequest) -> Iterator[_Change]:
    """An 8-bit cache, where it is 16 bit today."""
    if request.demand.kv_precision == "auto":
        yield _Change(
            *("kv_precision", "cache in fp8", "-c kv_precision=fp8"),
            replace(request, demand=replace(request.demand, kv_precision="fp8")),
            None,
            UNKNOWN,
        )


def _together(sibling: _Change, smaller: _Change) -> _Change:
    """A smaller sibling in a smaller format: qualities multiply, for want of anything better."""
    known = sibling.quality is not None and smaller.quality is not None
    quality = round((sibling.quality or 0) * (smaller.quality or 0) / 100, 1) if known else None
    return _Change(
        *("together", f"{sibling.words}, {smaller.words}", f"{sibling.how} {smaller.how}"),
        smaller.request,
        quality,
        "article, both figures multiplied" if known else UNKNOWN,
        smaller.note,
    )


def _lever(change: _Change, assessments: Sequence[Assessment], usd_per_month: float) -> Lever:
    ranked = rank(assessments)
    best = ranked[0] if ranked else None
    within = [item for item in assessments if all(found.criterion != "instance_families" for found in item.reasons)]
    note = change.note if best else f"no type can serve: {what_excludes(within or assessments)}"
    return Lever(
        kind=change.kind,
        change=change.words,
        how=change.how,
        instance_type=best.name if best else None,
        usd_per_month=round(best.usd_per_month, 2) if best else None,
        saves_usd_per_month=round(usd_per_month - best.usd_per_month, 2) if best else None,
        quality_retained_percent=change.quality,
        quality_source=change.source,
        note=note,
    )
