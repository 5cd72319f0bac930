"""configs/catalog/efficiency.yaml as typed values: the coefficients, the spread of errors, and the recorded errors."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from llm_fleet.documents import CONFIGS, shown_path
from llm_fleet.errors import InputError, Problem
from llm_fleet.sizing.case import levels
from llm_fleet.sizing.coefficients import TERMS, Coefficients, Floats
from llm_fleet.sizing.evidence import Counts
from llm_fleet.sizing.interval import Widths

PATH = CONFIGS / "catalog" / "efficiency.yaml"
TYPICAL = "typical"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything that the fit wrote."""

    coefficients: Coefficients
    widths: Widths
    """Of times per token and of rates."""
    ttft_widths: Widths
    """Of times to first token."""
    recorded: Mapping[str, float]
    """Errors of the fit on its own points: rows, median and 90th percentile of the absolute percentage error."""
    evidence: Counts
    """Points by accelerator, engine class and format, then by billions of parameters."""


@functools.cache
def calibration() -> Calibration:
    """The kit's own calibration, read once per process.

    Raises:
        InputError: the file is missing or broken, or a coefficient lies outside its physical range.
    """
    return read_calibration(PATH)


def read_calibration(path: Path) -> Calibration:
    """The calibration in `path`. Raises InputError as `calibration` does."""
    shown = shown_path(path)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data: Any = yaml.load(path.read_text("utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(Problem(shown, f"cannot be read ({error}); make calibrate writes it")) from None
    try:
        return _typed(cast("dict[str, Any]", data))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(Problem(shown, f"is not a calibration ({error!r}); make calibrate writes it")) from None


def _typed(data: dict[str, Any]) -> Calibration:
    where = levels()
    centres: dict[str, float] = {}
    effects: dict[tuple[str, str], Floats] = {}
    for term in TERMS:
        entry = data["coefficients"][term.name]
        value = float(entry[TYPICAL]["value"])
        if not 0 < value < (term.most if term.kind == "share" else np.inf):
            raise ValueError(f"{term.name}: {value:g} is outside its physical range")
        centres[term.name] = term.inner(value)
        for factor in term.effects:
            found = np.zeros(where.count(factor))
            written: dict[str, dict[str, float]] = entry.get(factor) or {}
            for number in range(len(found)):
                label = where.label(factor, number)
                if label in written:
                    found[number] = float(written[label]["effect"])
            effects[term.name, factor] = found
    return Calibration(
        coefficients=Coefficients(where, centres, effects),
        widths=_widths(data["widths"]),
        ttft_widths=_widths(data["ttft_widths"]),
        recorded=dict(data["recorded"]),
        evidence={name: dict(sizes) for name, sizes in data["evidence"].items()},
    )


def _widths(data: dict[str, Any]) -> Widths:
    return Widths(float(data["typical"]), {name: dict(data[name]) for name in Widths.FACTORS})
