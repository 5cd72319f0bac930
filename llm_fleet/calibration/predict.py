"""Predicted service of a batch of points, in the units of the points file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from llm_fleet.calibration.setups import Batch
from llm_fleet.sizing.coefficients import Floats
from llm_fleet.sizing.service import Load, Service, at_rate, rows_of, steady_state


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is compared with a point's measured columns."""

    output_tokens_per_s: Floats
    total_tokens_per_s: Floats
    ttft_ms: Floats
    tpot_ms: Floats
    room: Floats
    """Requests that memory would let run at once."""


def predict(batch: Batch, rates: Mapping[str, Floats]) -> Prediction:
    """The service of every row: at its rate where it has one, else at its concurrency."""
    found = steady_state(batch.work, rates, batch.load)
    timed = np.flatnonzero(~np.isnan(batch.rates_per_s))
    if len(timed):
        taken = {name: values[timed] for name, values in rates.items()}
        at = at_rate(rows_of(batch.work, timed), taken, rows_of(batch.load, timed), batch.rates_per_s[timed])
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
