"""Writes what was fitted as configs/catalog/efficiency.yaml: every coefficient with its interval and points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llm_fleet.calibration.fit import Fitted, Residuals
from llm_fleet.calibration.setups import Batch
from llm_fleet.sizing.coefficient_file import TYPICAL
from llm_fleet.sizing.coefficients import TERMS, Floats, Term
from llm_fleet.sizing.evidence import Counts
from llm_fleet.sizing.interval import Widths

SIGMAS = 1.2816
"""Standard deviations on either side of the mean that hold 80 %."""
HEAD = """\
# Written by `make calibrate` from configs/benchmarks/points.csv: do not edit, run it.
#
# A coefficient starts from its typical value; each level of a factor adds an effect on the inner scale (logit of a
# share, logarithm of a cost). `value` is the coefficient where only that effect applies; low and high hold 80 %; points
# is how many comparisons touched the level. A missing level has no points and stands where its wider family does.
"""


def calibration_text(
    fitted: Fitted,
    batch: Batch,
    compared: Residuals,
    widths: Widths,
    ttft_widths: Widths,
    evidence: Counts,
    recorded: Mapping[str, float],
) -> str:
    """The file. Same fit, same text."""
    lines = [HEAD, "recorded:"]
    lines += [f"  {name}: {_number(value)}" for name, value in recorded.items()]
    lines += ["", "coefficients:"]
    for term in TERMS:
        lines += _term(term, fitted, batch, compared)
    lines += _widths("widths", widths) + _widths("ttft_widths", ttft_widths)
    lines += ["", "evidence:"]
    for name, sizes in evidence.items():
        inside = ", ".join(f"{size:g}: {count}" for size, count in sizes.items())
        lines.append(f"  {name}: {{{inside}}}")
    return "\n".join(lines) + "\n"


def _widths(name: str, widths: Widths) -> list[str]:
    lines = ["", f"{name}:", f"  typical: {_number(widths.typical)}"]
    for factor in Widths.FACTORS:
        lines.append(f"  {factor}:")
        lines += [f"    {level}: {_number(value)}" for level, value in sorted(widths.factors[factor].items())]
    return lines


def _term(term: Term, fitted: Fitted, batch: Batch, compared: Residuals) -> list[str]:
    where = fitted.parameters
    start = where.starts[term.name, ""]
    centre, deviation = fitted.vector[start], fitted.deviation[start]
    inside = f"meaning: {term.meaning!r}, unit: {term.unit!r}, kind: {term.kind}"
    lines = [
        f"  {term.name}:",
        f"    about: {{{inside}}}",
        f"    {TYPICAL}: {{{_entry(term, centre, 0.0, deviation)}, points: {len(compared.rows)}}}",
    ]
    for factor in term.effects:
        first = where.starts[term.name, factor]
        counts = np.bincount(
            where.levels.index(factor, batch.levels)[compared.rows], minlength=where.levels.count(factor)
        )
        shown: list[str] = []
        for number, count in enumerate(counts):
            if count:
                effect = fitted.vector[first + number]
                entry = _entry(term, centre, effect, fitted.deviation[first + number])
                label = where.levels.label(factor, number)
                shown.append(f"      {label}: {{effect: {_number(effect)}, {entry}, points: {count}}}")
        lines += [f"    {factor}:", *shown] if shown else []
    return lines


def _entry(term: Term, centre: float, effect: float, deviation: float) -> str:
    inner: Floats = centre + effect + np.array([0.0, -SIGMAS, SIGMAS]) * deviation
    value, low, high = (float(found) for found in term.physical(inner))
    return f"value: {_number(value)}, low: {_number(low)}, high: {_number(high)}"


def _number(value: float) -> str:
    return f"{value:.5g}" if value == value else ".nan"
