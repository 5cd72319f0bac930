"""The whole calibration: points -> coefficients, widths from cross-validation, evidence -> one file, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llm_fleet.calibration.crossval import held_out
from llm_fleet.calibration.estimate import scored_rows
from llm_fleet.calibration.fit import LOW_LOAD, Fitted, Residuals, fit, predicted, residuals_of
from llm_fleet.calibration.points import Point, read_points
from llm_fleet.calibration.predict import Prediction, predict
from llm_fleet.calibration.score import as_text, table
from llm_fleet.calibration.setups import Batch, Resolver, batch_of
from llm_fleet.calibration.write import calibration_text
from llm_fleet.documents import CONFIGS
from llm_fleet.errors import InputError
from llm_fleet.sizing.coefficient_file import PATH
from llm_fleet.sizing.coefficients import Floats
from llm_fleet.sizing.evidence import Counts, count_evidence, evidence_points, width_classes
from llm_fleet.sizing.interval import Widths, fitted_widths
from llm_fleet.whole_file import write_whole

POINTS = CONFIGS / "benchmarks" / "points.csv"
FOLDS = {"source": 10, "model": 8}
"""Groups of sources and of models that are held out in turn."""
TTFT = 3
"""Kind of a comparison of times to first token."""


def fold_key(point: Point, by: str) -> str:
    """What a point is held out with: its source, or its model."""
    return point.source_id if by == "source" else point.model_card or point.model


@dataclass(frozen=True, slots=True)
class Calibrating:
    """The state of one calibration."""

    points: Sequence[Point | None]
    batch: Batch
    compared: Residuals
    fitted: Fitted

    def errors(self, found: Prediction) -> Floats:
        """Logarithm of predicted over measured of each comparison."""
        return np.log(predicted(self.batch, found, self.compared) / self.compared.measured)

    def point(self, comparison: int) -> Point:
        """The point of a comparison."""
        point = self.points[self.batch.indices[int(self.compared.rows[comparison])]]
        assert point is not None
        return point


def fit_points(path: Path = POINTS) -> Calibrating:
    """Reads and fits.

    Raises:
        InputError: bad rows, or a coefficient at the edge of its physical range.
    """
    table = read_points(path)
    if table.problems:
        raise InputError(table.problems.values())
    points = [None if point is None or point.left_out else point for point in table.points]
    batch, _ = batch_of(points, Resolver())
    compared = residuals_of(batch, points)
    return Calibrating(points, batch, compared, fit(batch, compared))


def calibrate(points: Path = POINTS, out: Path = PATH) -> str:
    """Fit, cross-validate, write; the returned text is the table of errors."""
    state = fit_points(points)
    inside = predict(state.batch, state.fitted.coefficients.rates(state.batch.levels))
    held = {
        by: held_out(
            state.points, ["" if p is None else fold_key(p, by) for p in state.points], state.batch, state.fitted, most
        )
        for by, most in FOLDS.items()
    }
    evidence = count_evidence(state.batch.row_setups())
    timed = state.compared.kinds == TTFT
    widths = _widths(state, held, evidence, ~timed)
    timed &= np.array([(state.point(i).concurrency or 1.0) <= LOW_LOAD for i in range(len(timed))])
    ttft_widths = _widths(state, held, evidence, timed)
    recorded = {
        **_recorded("in_sample", state, state.errors(inside)),
        **{
            name: value
            for by, found in held.items()
            for name, value in _recorded(f"held_out_by_{by}", state, state.errors(found)).items()
        },
    }
    for by, found in held.items():
        half = ttft_widths.half(_classes(state, by, evidence))[state.compared.rows[timed]]
        recorded[f"held_out_by_{by}_ttft_inside"] = float(np.mean(np.abs(state.errors(found)[timed]) <= half))
    text = calibration_text(state.fitted, state.batch, state.compared, widths, ttft_widths, evidence, recorded)
    write_whole(out, text)
    tables = [f"{name:44}{value:10.4g}" for name, value in recorded.items()]
    for by, said in held.items():
        widths_here = np.exp(widths.half(_classes(state, by, evidence)))
        place_of = {index: place for place, index in enumerate(state.batch.indices)}
        rows = scored_rows(state.points, state.batch, said, widths_here, place_of)
        tables += [f"\nheld out by {by}, all engines", as_text(table(rows))]
        judged = {point.line for point in state.points if point and served(point)}
        mine = [row for row in rows if row.line in judged and not row.engine.startswith("neuron")]
        tables += [f"\nheld out by {by}, vLLM, SGLang and TensorRT-LLM at a fixed load", as_text(table(mine))]
    return "\n".join(tables)


def _recorded(name: str, state: Calibrating, errors: Floats) -> dict[str, float]:
    """Median and 90th percentile of the absolute percentage error, of what the issue judges."""
    off = np.abs(np.exp(errors) - 1)
    groups: dict[str, Callable[[Point, bool, bool], bool]] = {
        "gpu": lambda p, neuron, ttft: not ttft and not neuron and served(p),
        "neuron": lambda p, neuron, ttft: not ttft and neuron and p.mode in ONE_LOAD,
        "offline": lambda p, neuron, ttft: not ttft and p.mode == "offline_throughput",
        "ttft_low_load": lambda p, neuron, ttft: ttft and not neuron and served(p) and (p.concurrency or 1) <= LOW_LOAD,
    }
    found: dict[str, float] = {}
    rows = range(len(errors))
    setups = state.batch.row_setups()
    neuron = [setups[row].device.neuron for row in map(int, state.compared.rows)]
    for group, belongs in groups.items():
        mine = [off[i] for i in rows if belongs(state.point(i), neuron[i], bool(state.compared.kinds[i] == TTFT))]
        found[f"{name}_{group}_rows"] = len(mine)
        found[f"{name}_{group}_median"] = float(np.median(mine)) if mine else float("nan")
        found[f"{name}_{group}_p90"] = float(np.quantile(mine, 0.9)) if mine else float("nan")
    return found


ONE_LOAD = ("single_stream", "fixed_concurrency")
"""Modes with a known number of requests in flight."""
SERVED = ("vllm", "sglang", "tensorrt-llm")
"""Engines whose single streams and fixed concurrencies are judged first."""


def served(point: Point) -> bool:
    """Whether a point is of the engines and modes that are judged first."""
    return point.engine in SERVED and point.mode in ONE_LOAD


def _widths(
    state: Calibrating, held: Mapping[str, Prediction], evidence: Counts, judged: npt.NDArray[np.bool_]
) -> Widths:
    """Widths from what was held out by source and by model together, every judged comparison counting alike."""
    main = np.flatnonzero(judged)
    errors: list[Floats] = []
    rows: dict[str, list[str]] = {name: [] for name in Widths.FACTORS}
    for by, found in held.items():
        errors.append(state.errors(found)[main])
        classes = _classes(state, by, evidence)
        for name, found_levels in rows.items():
            found_levels += [classes[name][row] for row in map(int, state.compared.rows[main])]
    both = np.concatenate(errors)
    points = [state.point(int(comparison)) for comparison in main]
    sweeps = [f"{point.source_id}|{point.model}" for point in points] * len(held)
    return fitted_widths(both, np.ones_like(both), rows, sweeps)


def _classes(state: Calibrating, by: str, evidence: Counts) -> dict[str, list[str]]:
    """What the width of each held-out row depends on. Its evidence is what it could still lean on: by source, the alike
    points of other sources; by model, those of other models.
    """
    setups = state.batch.row_setups()
    points = [point for point in (state.points[index] for index in state.batch.indices) if point]
    return width_classes(setups, [point.mode for point in points], _evidence_without(state, by, evidence))


def _evidence_without(state: Calibrating, by: str, evidence: Counts) -> list[int]:
    """Of each row, the alike points outside its own fold key."""
    setups = state.batch.row_setups()
    points = [state.points[index] for index in state.batch.indices]
    keys = [fold_key(point, by) if point else "" for point in points]
    own = {
        key: count_evidence(setup for setup, mine in zip(setups, keys, strict=True) if mine == key) for key in set(keys)
    }
    known: dict[tuple[int, str], int] = {}
    for setup, key in zip(setups, keys, strict=True):
        if (id(setup), key) not in known:
            known[id(setup), key] = evidence_points(evidence, setup) - evidence_points(own[key], setup)
    return [known[id(setup), key] for setup, key in zip(setups, keys, strict=True)]
