"""Predictions for a whole points file: what `estimate --points` writes and `validate` judges."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm_fleet.calibration.points import Point, PointTable
from llm_fleet.calibration.predict import Prediction, predict
from llm_fleet.calibration.score import FIGURES, Scored, figure_of, workload_of
from llm_fleet.calibration.setups import Batch, Resolver, batch_of
from llm_fleet.sizing.coefficient_file import Calibration, calibration
from llm_fleet.sizing.coefficients import Floats
from llm_fleet.sizing.evidence import evidence_points, width_classes

ADDED = (
    *("predicted_output_tokens_per_s", "predicted_total_tokens_per_s", "predicted_ttft_ms", "predicted_tpot_ms"),
    *("low_output_tokens_per_s", "high_output_tokens_per_s", "low_tpot_ms", "high_tpot_ms", "evidence_points"),
    "reason",
)
"""Columns that a prediction adds."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """A points file with its predictions."""

    table: PointTable
    batch: Batch
    found: Prediction
    widths: Floats
    """Factor of each row's interval."""
    evidence: Sequence[int]
    reasons: dict[int, str]
    """Why a row has no prediction, by its place in the file."""
    place_of: dict[int, int]
    """Where a row's prediction stands in the arrays, by its place in the file."""


def estimate(table: PointTable, known: Calibration | None = None) -> Estimated:
    """Predict every row that can be predicted; every other gets a reason."""
    known = known or calibration()
    batch, reasons = batch_of(table.points, Resolver())
    for index, problem in table.problems.items():
        reasons[index] = str(problem)
    place_of = {index: place for place, index in enumerate(batch.indices)}
    if not batch.indices:
        none = np.zeros(0)
        return Estimated(table, batch, Prediction(none, none, none, none, none), none, [], reasons, {})
    with np.errstate(all="ignore"):
        found = predict(batch, known.coefficients.rates(batch.levels))
    alike = {id(setup): evidence_points(known.evidence, setup) for setup in batch.setups}
    setups = batch.row_setups()
    evidence = [alike[id(setup)] for setup in setups]
    widths = widths_of(known, table.points, batch)
    good = np.isfinite(found.tpot_ms) & np.isfinite(found.output_tokens_per_s) & (found.output_tokens_per_s > 0)
    for index, place in list(place_of.items()):
        if not good[place]:
            reasons[index] = "the prediction is not a number: lengths or counts are out of all range"
            del place_of[index]
    return Estimated(table, batch, found, widths, evidence, reasons, place_of)


def widths_of(known: Calibration, points: Sequence[Point | None], batch: Batch) -> Floats:
    """The factor of each row's interval."""
    setups = batch.row_setups()
    alike = {id(setup): evidence_points(known.evidence, setup) for setup in batch.setups}
    modes = [point.mode for point in (points[index] for index in batch.indices) if point is not None]
    return np.exp(known.widths.half(width_classes(setups, modes, [alike[id(setup)] for setup in setups])))


def estimated_csv(estimated: Estimated) -> str:
    """The file with the predictions added; columns of those names that it already had are replaced."""
    table = estimated.table
    kept = [place for place, name in enumerate(table.columns) if name not in ADDED]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(table.columns[place] for place in kept), *ADDED])
    found, widths = estimated.found, estimated.widths
    figures = np.stack(
        [
            *(found.output_tokens_per_s, found.total_tokens_per_s, found.ttft_ms, found.tpot_ms),
            *(found.output_tokens_per_s / widths, found.output_tokens_per_s * widths),
            *(found.tpot_ms / widths, found.tpot_ms * widths),
        ],
        axis=1,
    ).tolist()
    empty = [""] * (len(ADDED) - 1)
    width = len(table.columns)
    for index, cells in enumerate(table.rows):
        row = [*cells, *[""] * (width - len(cells))]
        own = [row[place] for place in kept]
        place = estimated.place_of.get(index)
        if place is None:
            writer.writerow([*own, *empty, estimated.reasons.get(index, "no prediction")])
        else:
            numbers = [f"{value:.6g}" for value in figures[place]]
            writer.writerow([*own, *numbers, estimated.evidence[place], ""])
    return out.getvalue()


def scored(estimated: Estimated) -> list[Scored]:
    """Every predicted row that has a measurement to be judged by."""
    points = estimated.table.points
    return scored_rows(points, estimated.batch, estimated.found, estimated.widths, estimated.place_of)


def scored_rows(
    points: Sequence[Point | None], batch: Batch, found: Prediction, widths: Floats, place_of: dict[int, int]
) -> list[Scored]:
    """Predictions beside the measurements of their points; `place_of` leads from a point to its prediction."""
    rows: list[Scored] = []
    values = {name: getattr(found, name) for name in FIGURES}
    for index, place in place_of.items():
        point = points[index]
        figure = figure_of(point) if point else None
        if point is None or figure is None:
            continue
        said, width = float(values[figure[0]][place]), float(widths[place])
        rows.append(
            Scored(
                line=point.line,
                source_id=point.source_id,
                accelerator=point.accelerator,
                engine=batch.setups[int(batch.setup_of[place])].engine,
                mode=point.mode,
                workload=workload_of(point),
                figure=figure[0],
                measured=figure[1],
                predicted=said,
                low=said / width,
                high=said * width,
                measured_ttft_ms=point.ttft_ms,
                predicted_ttft_ms=float(found.ttft_ms[place]),
                concurrency=point.concurrency,
                devices=point.count,
            )
        )
    return rows
