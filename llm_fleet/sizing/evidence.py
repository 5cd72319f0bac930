"""How many measured points stand behind a prediction: those of the same accelerator, engine class and weight format
whose model is within a factor of two in size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from llm_fleet.sizing.case import Setup

NEAR_IN_SIZE = 2.0
"""Models within this factor count as alike."""

Counts = Mapping[str, Mapping[float, int]]
"""Points by class, then by billions of parameters."""


def evidence_class(setup: Setup) -> str:
    """accelerator|engine class|format family."""
    return f"{setup.device.name}|{setup.engine}|{setup.traits.expert_format}"


def count_evidence(setups: Iterable[Setup]) -> dict[str, dict[float, int]]:
    """The counts of many points, sorted."""
    found: dict[str, Counter[float]] = {}
    for setup in setups:
        found.setdefault(evidence_class(setup), Counter())[size_billion(setup)] += 1
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def size_billion(setup: Setup) -> float:
    """Billions of parameters, to three digits."""
    return float(f"{setup.traits.params / 1e9:.3g}")


def evidence_points(counts: Counts, setup: Setup) -> int:
    """Points that are alike."""
    size = setup.traits.params / 1e9
    alike = counts.get(evidence_class(setup), {})
    return sum(n for known, n in alike.items() if size / NEAR_IN_SIZE <= known <= size * NEAR_IN_SIZE)
