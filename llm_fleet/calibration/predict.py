"""Predicted service of a batch of points, in the units of the points file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from llm_fleet.calibration.setups import Batch
from llm_fleet.sizing.coefficients import Floats
from llm_fleet.sizing.service import Load, Service, at_rate, steady_state
from llm_fleet.sizing.step_time import Work


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is compared with a point's measured columns."""

    output_tokens_per_s: Floats
    total_tokens_per_s: Floats
    ttft_ms: Floats
    tpot_ms: Floats
    room: Floats
    """Requests that memory would let run at once."""


def _rows(
    work: Work, load: Load, rates: Mapping[str, Floats], places: npt.NDArray[np.intp]
) -> tuple[Work, Load, dict[str, Floats]]:
    taken_work = Work(**{f.name: getattr(work, f.name)[places] for f in fields(Work)})
    taken_load = Load(**{f.name: getattr(load, f.name)[places] for f in fields(Load)})
    return taken_work, taken_load, {name: values[places] for name, values in rates.items()}


def predict(batch: Batch, rates: Mapping[str, Floats]) -> Prediction:
    """The service of every row: at its rate where it has one, else at its concurrency."""
    found = steady_state(batch.work, rates, batch.load)
    timed = np.flatnonzero(~np.isnan(batch.rates_per_s))
    if len(timed):
        work, load, taken = _rows(batch.work, batch.load, rates, timed)
        at = at_rate(work, taken, load, batch.rates_per_s[timed])
        for name in ("tpot_s", "ttft_s", "output_tokens_per_s", "requests_per_s"):
            getattr(found, name)[timed] = getattr(at, name)
    result = _in_units(found, batch.load)
    spread = (result.ttft_ms + result.tpot_ms * (batch.load.output_tokens - 1)) / batch.load.output_tokens
    return replace(result, tpot_ms=np.where(batch.latency_per_token > 0, spread, result.tpot_ms))


def _in_units(found: Service, load: Load) -> Prediction:
    return Prediction(
        output_tokens_per_s=found.output_tokens_per_s,
        total_tokens_per_s=found.output_tokens_per_s * (load.input_tokens + load.output_tokens) / load.output_tokens,
        ttft_ms=found.ttft_s * 1e3,
        tpot_ms=found.tpot_s * 1e3,
        room=found.room,
    )
