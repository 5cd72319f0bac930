"""How far predictions are from measurements, by group: the table, and the regret of choosing by them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llm_fleet.calibration.fit import LOW_LOAD, main_figure
from llm_fleet.calibration.points import Point


@dataclass(frozen=True, slots=True)
class Scored:
    """One predicted row beside what was measured."""

    line: int
    source_id: str
    accelerator: str
    engine: str
    """Engine class."""
    mode: str
    workload: tuple[object, ...]
    """Rows of equal workload compare accelerators."""
    figure: str
    """tpot_ms, output_tokens_per_s or total_tokens_per_s: the figure by which it is judged."""
    measured: float
    predicted: float
    low: float
    high: float
    measured_ttft_ms: float | None
    predicted_ttft_ms: float
    concurrency: float | None
    devices: float

    @property
    def error(self) -> float:
        """Absolute percentage error, as a share."""
        return abs(self.predicted / self.measured - 1)

    @property
    def slow_by(self) -> float:
        """Logarithm by which the prediction is slower than the measurement."""
        ratio = float(np.log(self.predicted / self.measured))
        return ratio if self.figure == "tpot_ms" else -ratio

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True)
class Line:
    """Errors of one group. Shares, not percent; nan where there is nothing to tell."""

    group: str
    name: str
    rows: int
    median: float
    p90: float
    bias: float
    """Median logarithm of predicted over measured time: above 0 is slower than measured."""
    coverage: float
    rank: float
    """Mean rank correlation within equal workloads."""
    ttft_rows: int
    ttft_median: float
    """At low load."""


TITLES = {"overall": "", "accelerator": "accelerator", "engine": "engine class", "mode": "mode", "source_id": "source"}
"""Groups of the table and their headings."""
FIGURES = ("tpot_ms", "output_tokens_per_s", "total_tokens_per_s")


def figure_of(point: Point) -> tuple[str, float] | None:
    """The figure by which a point is judged and its measured value."""
    found = main_figure(point)
    return (FIGURES[found[0]], found[1]) if found else None


def workload_of(point: Point) -> tuple[object, ...]:
    """What must be equal for two rows to be alternatives to each other: model, lengths and mode."""
    return point.model_card or point.model, point.mode, point.input_tokens, point.output_tokens


def table(rows: Sequence[Scored]) -> list[Line]:
    """Overall first, then by accelerator, engine class, mode and source."""
    lines = [line("overall", "all", rows)]
    for group in ("accelerator", "engine", "mode", "source_id"):
        kinds: dict[str, list[Scored]] = defaultdict(list)
        for row in rows:
            kinds[getattr(row, group)].append(row)
        lines += [line(group, name or "(none)", kinds[name]) for name in sorted(kinds)]
    return lines


def line(group: str, name: str, rows: Sequence[Scored]) -> Line:
    """Errors of some rows."""
    errors = np.array([row.error for row in rows])
    early = [
        abs(row.predicted_ttft_ms / row.measured_ttft_ms - 1)
        for row in rows
        if row.measured_ttft_ms and (row.concurrency or 1.0) <= LOW_LOAD
    ]
    return Line(
        *(group, name, len(rows), _median(errors), _quantile(errors, 0.9), _median([row.slow_by for row in rows])),
        float(np.mean([row.inside for row in rows])) if rows else float("nan"),
        rank_correlation(rows),
        len(early),
        _median(early),
    )


def as_text(lines: list[Line]) -> str:
    """The table: shares in percent."""
    text = [
        f"{'':34}{'rows':>6}{'median':>8}{'p90':>8}{'bias':>8}{'in 80 %':>9}{'rank':>7}{'ttft rows':>11}{'ttft':>8}"
    ]
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            text += [f"by {TITLES[group]}"] if TITLES[group] else []
        text.append(
            f"  {line.name[:31]:32}{line.rows:6}{_percent(line.median)}{_percent(line.p90)}{_percent(line.bias)}"
            f"{_percent(line.coverage):>9}{_share(line.rank)}{line.ttft_rows:11}{_percent(line.ttft_median)}"
        )
    return "\n".join(text)


def _percent(value: float) -> str:
    return f"{'-':>8}" if math.isnan(value) else f"{100 * value:7.1f}%"


def _share(value: float) -> str:
    return f"{'-':>7}" if math.isnan(value) else f"{value:7.3f}"


def rank_correlation(rows: Iterable[Scored]) -> float:
    """Mean over workloads with three or more different measurements of the correlation of ranks (Spearman), weighted by
    rows.
    """
    total = weight = 0.0
    for group in _by_workload(rows).values():
        measured = np.array([row.measured for row in group])
        if len(group) >= 3 and len(set(measured)) >= 3:
            predicted = np.array([row.predicted for row in group])
            total += len(group) * _correlation(_ranks(measured), _ranks(predicted))
            weight += len(group)
    return total / weight if weight else float("nan")


def regret(rows: Iterable[Scored], device_usd_per_hour: Mapping[str, float]) -> list[float]:
    """Of each workload at one load that was measured on two or more priced accelerators: how much dearer a token is on
    the row that the predictions choose than on the best in hindsight.
    """
    found: list[float] = []
    for group in _by_workload(rows, at_load=True).values():
        known = [row for row in group if row.accelerator in device_usd_per_hour]
        if len({row.accelerator for row in known}) < 2:
            continue
        usd = [device_usd_per_hour[row.accelerator] * row.devices for row in known]
        measured = [price * _time(row, row.measured) for price, row in zip(usd, known, strict=True)]
        predicted = [price * _time(row, row.predicted) for price, row in zip(usd, known, strict=True)]
        found.append(measured[int(np.argmin(predicted))] / min(measured) - 1)
    return found


def _time(row: Scored, value: float) -> float:
    return value if row.figure == "tpot_ms" else 1 / value


def _by_workload(rows: Iterable[Scored], at_load: bool = False) -> dict[tuple[object, ...], list[Scored]]:
    groups: dict[tuple[object, ...], list[Scored]] = defaultdict(list)
    for row in rows:
        groups[*row.workload, row.figure, row.concurrency if at_load else None].append(row)
    return groups


def _median(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _quantile(values: np.ndarray[tuple[int], np.dtype[np.float64]], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")


def _ranks(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Mean ranks, equal values sharing theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _correlation(
    a: np.ndarray[tuple[int], np.dtype[np.float64]], b: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size else 0.0
