"""How many measured points stand behind a prediction: those of the same accelerator, engine class and weight format
whose model is within a factor of two in size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llm_fleet.sizing.case import Setup
from llm_fleet.sizing.interval import evidence_word

NEAR_IN_SIZE = 2.0
"""Models within this factor count as alike."""

NEAREST = 2
"""Kinds of measured points that are named beside a prediction."""

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


@dataclass(frozen=True, slots=True)
class Measured:
    """Measured points of one kind."""

    accelerator: str
    engine: str
    """Engine class."""
    weight_format: str
    params_billion: float
    points: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What backs a prediction: how many points are alike, and the nearest kinds that were measured at all."""

    alike: int
    of_accelerator: int
    """Points of the same accelerator with any engine and format: where there is none, it inherits from its kin."""
    nearest: tuple[Measured, ...]


def evidence(counts: Counts, setup: Setup, kin: Mapping[str, str]) -> Evidence:
    """The evidence of a prediction. `kin` is the architecture of each accelerator.

    Nearest: first the same accelerator, then its architecture; then the same engine class and format; then size.
    """
    own = setup.device

    def distance(known: Measured) -> tuple[float, str, str]:
        total = abs(math.log(known.params_billion * 1e9 / setup.traits.params))
        if known.accelerator != own.name:
            total += 2.0 if kin.get(known.accelerator) == own.architecture else 8.0
        total += 2.0 * (known.engine != setup.engine) + 1.0 * (known.weight_format != setup.traits.expert_format)
        return total, known.accelerator, known.engine

    known: list[Measured] = []
    for name, sizes in counts.items():
        accelerator, engine, weight_format = name.split("|")
        known += [Measured(accelerator, engine, weight_format, size, points) for size, points in sizes.items()]
    of_accelerator = sum(one.points for one in known if one.accelerator == own.name)
    return Evidence(evidence_points(counts, setup), of_accelerator, tuple(sorted(known, key=distance)[:NEAREST]))


def width_classes(setups: Sequence[Setup], modes: Sequence[str], evidence: Sequence[int]) -> dict[str, list[str]]:
    """What the width of each row's interval depends on (Widths.FACTORS), from its setup, its mode and its evidence."""
    return {
        "engine": [setup.engine for setup in setups],
        "architecture": [setup.device.architecture for setup in setups],
        "kin": [f"{setup.device.architecture}|{setup.engine}" for setup in setups],
        "mode": list(modes),
        "evidence": [evidence_word(points) for points in evidence],
    }
