"""From assessments to a pool's choices: rank by cost, keep those that can share one group, weigh them by rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from llm_fleet.catalog.types import Price
from llm_fleet.planning.criteria import ORDER, Assessment, reason
from llm_fleet.planning.plan import (
    Reason,
    Rejected,
)
from llm_fleet.sizing.serving import Hardware, ServingPlan

MAX_CHOICES = 8
COST_BAND = 1.5
"""A choice costs at most this many times the best one a month: a fallback should not double the bill."""
RATE_BAND = 4.0
"""Rates within one group differ at most by this: weights stay small and a loss or a start moves capacity in like
steps.
"""
MIN_ZONES = 2


@dataclass(frozen=True, slots=True)
class Ranked:
    """A type that can serve, with its place by cost and everything known of it."""

    rank: int
    assessment: Assessment
    hardware: Hardware
    serving: ServingPlan
    price: Price
    usd_per_month: float

    @property
    def name(self) -> str:
        """The instance type's name."""
        return self.assessment.name

    @property
    def zone_ids(self) -> tuple[str, ...]:
        """Where it is offered."""
        return self.assessment.candidate.zone_ids

    @property
    def usd_per_million_output_tokens(self) -> float:
        """On-demand price over output at the largest load within the marks."""
        return (self.price.on_demand_usd_per_hour or 0.0) / (self.serving.sized_output_tokens_per_s * 3600) * 1e6


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pool's choices in rank order, the zones they share, and every other type with its reason."""

    choices: tuple[Ranked, ...]
    zone_ids: tuple[str, ...]
    rejected: tuple[Rejected, ...]


def rank(assessments: Iterable[Assessment]) -> tuple[Ranked, ...]:
    """Types that meet every criterion, cheapest at expected load first, then per token, then by name."""
    able: list[tuple[float, float, str, Assessment]] = []
    for item in assessments:
        serving, price = item.candidate.serving, item.candidate.price
        if item.reasons or item.usd_per_month is None or serving is None or price is None:
            continue
        per_token = (price.on_demand_usd_per_hour or 0.0) / serving.sized_output_tokens_per_s
        able.append((item.usd_per_month, per_token, item.name, item))
    ranked: list[Ranked] = []
    for place, (usd, _, _, item) in enumerate(sorted(able, key=lambda entry: entry[:3]), start=1):
        candidate = item.candidate
        assert candidate.hardware is not None
        assert candidate.serving is not None
        assert candidate.price is not None
        ranked.append(Ranked(place, item, candidate.hardware, candidate.serving, candidate.price, usd))
    return tuple(ranked)


def choose(assessments: Sequence[Assessment]) -> Chosen | None:
    """The choices of a pool, or None where no type can serve."""
    ranked = rank(assessments)
    if not ranked:
        return None
    kept: list[Ranked] = []
    zones = set(ranked[0].zone_ids)
    refused: dict[str, Rejected] = {}
    for entry in ranked:
        why = _reason_to_leave_out(entry, kept, zones)
        if why:
            refused[entry.name] = _rejected(entry.assessment, (why,), entry.rank)
        else:
            kept.append(entry)
            zones &= set(entry.zone_ids)
    chosen = {entry.name for entry in kept}
    rejected = [
        refused.get(item.name) or _rejected(item, item.reasons, None) for item in assessments if item.name not in chosen
    ]
    rejected.sort(key=lambda item: (item.rank is None, item.rank or 0))
    return Chosen(tuple(kept), tuple(sorted(zones)), tuple(rejected))


def _rejected(item: Assessment, reasons: tuple[Reason, ...], place: int | None) -> Rejected:
    usd = None if item.usd_per_month is None else round(item.usd_per_month, 2)
    return Rejected(instance_type=item.name, rank=place, usd_per_month=usd, reasons=reasons)


def _reason_to_leave_out(entry: Ranked, kept: Sequence[Ranked], zones: set[str]) -> Reason | None:
    """Why a type that can serve does not join the group of those already kept; None where it joins."""
    if not kept:
        return None
    best = kept[0]
    limit = COST_BAND * best.usd_per_month
    if entry.usd_per_month > limit:
        takes = f"the group takes up to {limit:,.0f} ({COST_BAND:g} x the best)"
        text = f"can serve, at {entry.usd_per_month:,.0f} USD a month; {takes}"
        return reason("cost", limit, entry.usd_per_month, "USD/month", text, limit - entry.usd_per_month)
    ours = (entry.hardware.engine.name, entry.hardware.instance_type.architecture)
    theirs = (best.hardware.engine.name, best.hardware.instance_type.architecture)
    if ours != theirs:
        text = f"can serve, but needs another AMI and engine ({' on '.join(ours)}) than {best.name}"
        return reason("same_ami", " on ".join(theirs), " on ".join(ours), "engine", text)
    rates = [item.serving.sized_output_tokens_per_s for item in kept]
    own = entry.serving.sized_output_tokens_per_s
    spread = max([own, *rates]) / min([own, *rates])
    if spread > RATE_BAND:
        spans = f"the group spans up to {RATE_BAND:g} x"
        text = f"can serve, but its {own:.0f} tokens/s is {spread:.1f} x from the others'; {spans}"
        return reason("rate", RATE_BAND, spread, "x", text, RATE_BAND - spread)
    least = min(MIN_ZONES, len(best.zone_ids))
    shared = zones & set(entry.zone_ids)
    if len(shared) < least:
        text = f"can serve, but shares {len(shared)} zone(s) with the others; the group needs {least}"
        return reason("zones", least, len(shared), "zones", text)
    if len(kept) >= MAX_CHOICES:
        text = f"can serve, but {MAX_CHOICES} cheaper types fill the group"
        return reason("choices", MAX_CHOICES, entry.rank, "rank", text, MAX_CHOICES - entry.rank)
    return None


def capacity_weights(choices: Sequence[Ranked]) -> tuple[int, ...]:
    """Units of each choice: its rate over the slowest one's, rounded; the slowest weighs 1."""
    slowest = min(entry.serving.sized_requests_per_s for entry in choices)
    return tuple(max(1, round(entry.serving.sized_requests_per_s / slowest)) for entry in choices)


def smallest_emptying_set(rejected: Sequence[Rejected]) -> tuple[str, ...]:
    """The fewest criteria that together exclude every type given; among equals, those earliest in ORDER."""
    failing = {frozenset(failed.criterion for failed in item.reasons) for item in rejected}
    names = sorted(frozenset[str]().union(*failing), key=ORDER.index)
    for size in range(len(names)):
        for group in combinations(names, size):
            if all(one & set(group) for one in failing):
                return group
    return tuple(names)


def headline(chosen: Chosen, assessments: Sequence[Assessment]) -> str:
    """One sentence for a pool that has choices: how many can serve, and what excluded most of the rest."""
    able = len(chosen.choices) + sum(item.rank is not None for item in chosen.rejected)
    unable = [item for item in chosen.rejected if item.rank is None]
    sentence = f"{able} of {len(assessments)} types can serve; {len(chosen.choices)} of them share the group"
    if not unable:
        return f"{sentence}."
    return f"{sentence}; {_and(smallest_emptying_set(unable))} exclude the other {len(unable)}."


def what_excludes(assessments: Sequence[Assessment]) -> str:
    """Of types none of which can serve: the smallest set of criteria that excludes them all, in words."""
    rejected = [_rejected(item, item.reasons, None) for item in assessments]
    group = smallest_emptying_set(rejected)
    if len(group) == 1:
        return f"every one fails {group[0]}"
    return f"{_and(group)} together exclude all {len(rejected)}, each was met by some, never by the same type"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
