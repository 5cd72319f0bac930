"""How far a prediction may be off: widths that hold about 80 % of points of sources and models that the fit never saw.

A width is a factor: the interval runs from value / width to value * width. It is a typical width times what the engine
class, the architecture, both together, the mode and the evidence at hand have shown, each drawn towards 1 where few
sweeps speak: a sweep's rows are off together, so they are one witness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llm_fleet.sizing.coefficients import Floats

COVERAGE = 0.8
"""Share of held-out points that an interval should hold."""
SHRINK_SWEEPS = 1.0
"""Sweeps (a source's rows of one model) that count as much as the belief that a class is like all others."""
ROUNDS = 6
EVIDENCE = ((0, "none"), (1, "few"), (30, "some"), (150, "many"))
"""From this many points of like configurations on, the evidence is called so."""


def evidence_word(points: int) -> str:
    """none, few, some or many."""
    return next(word for least, word in reversed(EVIDENCE) if points >= least)


@dataclass(frozen=True, slots=True)
class Widths:
    """Half-widths on the logarithmic scale."""

    typical: float
    factors: Mapping[str, Mapping[str, float]]
    """Multipliers of the half-width, by factor and level; a level that is missing counts 1."""
    FACTORS: ClassVar[tuple[str, ...]] = ("engine", "architecture", "kin", "mode", "evidence")

    def half(self, rows: Mapping[str, Sequence[str]]) -> Floats:
        """The half-width of each row."""
        count = len(rows["engine"])
        total = np.full(count, self.typical)
        for factor in self.FACTORS:
            known = self.factors[factor]
            total = total * np.array([known.get(level, 1.0) for level in rows[factor]])
        return total


def fitted_widths(errors: Floats, weights: Floats, rows: Mapping[str, Sequence[str]], sweeps: Sequence[str]) -> Widths:
    """Widths that hold COVERAGE of the held-out errors (logarithms of predicted over measured), class by class.
    `sweeps` names the sweep of each row.
    """
    size = np.abs(errors)
    typical = weighted_quantile(size, weights, COVERAGE)
    factors: dict[str, dict[str, float]] = {name: {} for name in Widths.FACTORS}
    codes = {name: np.array(rows[name]) for name in Widths.FACTORS}
    sweep = np.array(sweeps)
    for _ in range(ROUNDS):
        for name in Widths.FACTORS:
            rest = Widths(typical, {**factors, name: {}}).half(rows)
            for level in sorted(set(codes[name])):
                mine = codes[name] == level
                ratio = weighted_quantile(size[mine] / rest[mine], weights[mine], COVERAGE)
                witnesses = len(set(sweep[mine]))
                trust = witnesses / (witnesses + SHRINK_SWEEPS)
                factors[name][level] = float(np.exp(trust * np.log(max(ratio, 0.05))))
        overall = Widths(typical, factors).half(rows)
        typical *= weighted_quantile(size / overall, weights, COVERAGE)
    return Widths(float(typical), factors)


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """The value below which `share` of the weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, share * total[-1])])
