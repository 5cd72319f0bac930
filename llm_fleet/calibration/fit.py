"""Fits the coefficients to measured points: damped Gauss-Newton on a robust loss, with beliefs beforehand.

Every residual is the logarithm of predicted over measured. A family of effects is moved at once, since a row has one
level of each factor: the Jacobian costs one prediction a term, however many levels there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llm_fleet.calibration.points import Point
from llm_fleet.calibration.predict import Prediction, predict
from llm_fleet.calibration.setups import Batch
from llm_fleet.sizing.case import levels
from llm_fleet.sizing.coefficients import TERMS, Coefficients, Floats, Integers, Levels

NOISE = 0.15
"""Spread of a good measurement around a good model, as a logarithm; where the loss turns from square to linear."""
TTFT_WEIGHT = 0.5
"""Time to first token is noisier and its statistic often unstated."""
LOW_LOAD = 4.0
"""Requests in flight up to which a time to first token is prompt work rather than queueing."""
LOADED_TTFT_WEIGHT = 0.15
"""Above LOW_LOAD it also depends on how a client sends its requests."""
OTHER_WEIGHT = 0.5
"""Of engines and modes outside the served ones: they inform shared physics, and no more."""
BELIEF = 0.2
"""What the spreads of the terms are multiplied by: held-out sources and models are predicted best near it."""
GROUP_POWER = 0.5
"""A row weighs as its sweep's size to the power of minus this: a large sweep counts more than a small one, but its rows
are no independent witnesses."""
DIFFERENCE = 1e-4
LONGEST_STEP = 0.3
"""Of an entry in one round: longer ones end in a worse minimum."""


@dataclass(frozen=True, slots=True)
class Residuals:
    """What is compared: for each, its row, which figure, the measured value and its weight."""

    rows: Integers
    kinds: Integers
    """0 TPOT, 1 output tokens/s, 2 total tokens/s, 3 TTFT."""
    measured: Floats
    weights: Floats


def residuals_of(batch: Batch, points: Sequence[Point | None], groups: bool = True) -> Residuals:
    """The comparisons of a batch: TPOT where measured, else a rate; TTFT beside it where the prompt's length is
    stated. Rows of a group of alike ones (source, model, accelerator) weigh less the more there are, so that no large
    sweep drowns the rest.
    """
    kept = [point for point in (points[i] for i in batch.indices) if point is not None]
    sizes = Counter((p.source_id, p.model, p.accelerator) for p in kept)
    rows: list[int] = []
    kinds: list[int] = []
    measured: list[float] = []
    weights: list[float] = []
    for row, point in enumerate(kept):
        base = sizes[point.source_id, point.model, point.accelerator] ** -GROUP_POWER if groups else 1.0
        if point.mode not in ("single_stream", "fixed_concurrency"):
            base *= OTHER_WEIGHT
        main = main_figure(point)
        if main:
            rows.append(row)
            kinds.append(main[0])
            measured.append(main[1])
            weights.append(base)
        if point.ttft_ms and point.input_tokens and point.mode in ("single_stream", "fixed_concurrency"):
            rows.append(row)
            kinds.append(3)
            measured.append(point.ttft_ms)
            low = (point.concurrency or 1.0) <= LOW_LOAD
            weights.append(base * (TTFT_WEIGHT if low else LOADED_TTFT_WEIGHT))
    found = np.array(weights)
    found = found / np.sqrt(np.mean(found**2)) if len(found) else found
    return Residuals(np.array(rows, dtype=np.int64), np.array(kinds, dtype=np.int64), np.array(measured), found)


def main_figure(point: Point) -> tuple[int, float] | None:
    """The figure by which a point is judged: TPOT, else output tokens/s, else total tokens/s."""
    for kind, value in enumerate((point.tpot_ms, point.output_tokens_per_s, point.total_tokens_per_s)):
        if value:
            return kind, value
    return None


def predicted(batch: Batch, found: Prediction, compared: Residuals) -> Floats:
    """The predicted value of each comparison."""
    stack = np.stack([found.tpot_ms, found.output_tokens_per_s, found.total_tokens_per_s, found.ttft_ms])
    return stack[compared.kinds, compared.rows]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The vector that is fitted: every centre, then every effect of every level."""

    levels: Levels
    starts: Mapping[tuple[str, str], int]
    """By (term, factor); factor empty for the centre."""
    believed: Floats
    spread: Floats

    def coefficients(self, vector: Floats) -> Coefficients:
        """The vector as coefficients."""
        centres = {term.name: float(vector[self.starts[term.name, ""]]) for term in TERMS}
        effects = {
            (name, factor): vector[start : start + self.levels.count(factor)]
            for (name, factor), start in self.starts.items()
            if factor
        }
        return Coefficients(self.levels, centres, effects)


def parameters() -> Parameters:
    """The layout of the vector."""
    where = levels()
    starts: dict[tuple[str, str], int] = {}
    believed: list[float] = []
    spread: list[float] = []
    for term in TERMS:
        starts[term.name, ""] = len(believed)
        believed.append(term.centre)
        spread.append(term.spread)
        for factor, stray in term.effects.items():
            starts[term.name, factor] = len(believed)
            believed.extend([0.0] * where.count(factor))
            spread.extend([stray] * where.count(factor))
    return Parameters(where, starts, np.array(believed), np.array(spread) * BELIEF)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The best vector, and how sure it is."""

    parameters: Parameters
    vector: Floats
    deviation: Floats
    """Standard deviation of each entry, from the curvature of the loss."""
    cost: float

    @property
    def coefficients(self) -> Coefficients:
        """As the physics takes them."""
        return self.parameters.coefficients(self.vector)


def _errors(batch: Batch, rates: Mapping[str, Floats], compared: Residuals) -> Floats:
    found = predicted(batch, predict(batch, rates), compared)
    return np.log(np.maximum(found, 1e-12) / compared.measured)


def _cost(errors: Floats, weights: Floats, offset: Floats) -> float:
    scaled = weights * errors / NOISE
    return float(np.sum(2 * (np.sqrt(1 + scaled**2) - 1)) + np.sum(offset**2))


def fit(
    batch: Batch, compared: Residuals, start: Floats | None = None, rounds: int = 80, tolerance: float = 2e-5
) -> Fitted:
    """The coefficients that fit best. Deterministic: same points, same result."""
    where = parameters()
    vector = where.believed.copy() if start is None else start.copy()
    damping = 1e-2
    coefficients = where.coefficients(vector)
    inner = {term.name: coefficients.inner(term, batch.levels) for term in TERMS}
    errors = _errors(batch, {term.name: term.physical(inner[term.name]) for term in TERMS}, compared)
    cost = _cost(errors, compared.weights, (vector - where.believed) / where.spread)
    curvature = np.diag(1 / where.spread**2)
    for _ in range(rounds):
        slopes = _jacobian(batch, compared, where, inner, errors)
        scaled = compared.weights * errors / NOISE
        trust = compared.weights**2 / NOISE**2 / np.sqrt(1 + scaled**2)
        gradient = slopes.T @ (trust * errors) + (vector - where.believed) / where.spread**2
        curvature = slopes.T @ (slopes * trust[:, None]) + np.diag(1 / where.spread**2)
        before = cost
        for _ in range(8):
            move = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -gradient)
            candidate = vector + np.clip(move, -LONGEST_STEP, LONGEST_STEP)
            coefficients = where.coefficients(candidate)
            tried = {term.name: coefficients.inner(term, batch.levels) for term in TERMS}
            found = _errors(batch, {term.name: term.physical(tried[term.name]) for term in TERMS}, compared)
            reached = _cost(found, compared.weights, (candidate - where.believed) / where.spread)
            if reached < cost:
                vector, inner, errors, cost = candidate, tried, found, reached
                damping = max(damping / 4, 1e-6)
                break
            damping *= 5
        else:
            break
        if before - cost < tolerance * before:
            break
    deviation = np.sqrt(np.diag(np.linalg.inv(curvature)))
    return Fitted(where, vector, deviation, cost)


def _jacobian(
    batch: Batch, compared: Residuals, where: Parameters, inner: Mapping[str, Floats], errors: Floats
) -> Floats:
    """Change of each error with each entry of the vector."""
    slopes = np.zeros((len(errors), len(where.believed)))
    every = np.arange(len(errors))
    rates = {term.name: term.physical(inner[term.name]) for term in TERMS}
    for term in TERMS:
        moved = {**rates, term.name: term.physical(inner[term.name] + DIFFERENCE)}
        slope = (_errors(batch, moved, compared) - errors) / DIFFERENCE
        slopes[:, where.starts[term.name, ""]] = slope
        for factor in term.effects:
            level = where.levels.index(factor, batch.levels)[compared.rows]
            slopes[every, where.starts[term.name, factor] + level] += slope
    return slopes
