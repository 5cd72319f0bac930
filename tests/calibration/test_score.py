"""The yardsticks on small hand-made rows."""

from __future__ import annotations

import numpy as np
import pytest

from llm_fleet.calibration.score import Scored, line, rank_correlation, regret
from llm_fleet.sizing.interval import COVERAGE, Widths, fitted_widths


def row(
    measured: float, predicted: float, accelerator: str = "L4", figure: str = "tpot_ms", width: float = 1.2
) -> Scored:
    return Scored(
        *(1, "someone", accelerator, "vllm", "fixed_concurrency", ("model",), figure, measured, predicted),
        *(predicted / width, predicted * width, None, 100.0, 8.0, 1.0),
    )


def test_median_and_percentile_of_the_error():
    # Off by 10, 20 and 30 %: median 0.2; the ninth decile lies eight tenths of the way from 20 to 30.
    found = line("overall", "all", [row(100, 110), row(100, 120), row(100, 70)])
    assert (found.rows, found.median) == (3, pytest.approx(0.2))
    assert found.p90 == pytest.approx(0.28)


def test_bias_is_positive_where_predictions_are_slower():
    assert row(100, 120).slow_by > 0
    assert row(100, 80, figure="output_tokens_per_s").slow_by > 0


def test_coverage_counts_measurements_inside_the_interval():
    assert line("overall", "all", [row(100, 110), row(100, 130)]).coverage == pytest.approx(0.5)


def test_ranks_are_compared_within_a_workload():
    assert rank_correlation([row(1, 10), row(2, 20), row(3, 30)]) == pytest.approx(1)
    assert rank_correlation([row(1, 30), row(2, 20), row(3, 10)]) == pytest.approx(-1)


def test_regret_is_what_the_chosen_accelerator_costs_above_the_best():
    # Predicted, L4 at 1 x 20 comes before H100 at 4 x 6; measured it costs 1 x 30, against 4 x 6 = 24: 25 % more.
    rows = [row(30, 20, "L4"), row(6, 6, "H100")]
    assert regret(rows, {"L4": 1.0, "H100": 4.0}) == [pytest.approx(0.25)]


def test_regret_needs_two_priced_accelerators():
    assert regret([row(30, 20, "L4"), row(6, 6, "H100")], {"L4": 1.0}) == []


def test_widths_hold_the_share_that_they_promise_in_every_large_class():
    random = np.random.default_rng(7)
    rows = {name: ["same"] * 4000 for name in Widths.FACTORS}
    rows["engine"] = ["calm"] * 2000 + ["wild"] * 2000
    errors = random.normal(size=4000) * np.repeat([0.1, 0.4], 2000)
    half = fitted_widths(errors, np.ones(4000), rows, [str(place) for place in range(4000)]).half(rows)
    for part in (slice(0, 2000), slice(2000, 4000)):
        assert np.mean(np.abs(errors[part]) <= half[part]) == pytest.approx(COVERAGE, abs=0.03)


def test_a_class_that_one_sweep_speaks_for_stays_near_the_typical():
    # Both classes are off by 0.1 in every row, all others by 0.4. One sweep against a belief of one is trusted by
    # half, twenty sweeps by 20/21.
    levels = ["all"] * 4000 + ["one"] * 200 + ["many"] * 200
    sweeps = [str(row) for row in range(4000)] + ["same"] * 200 + [str(row % 20) for row in range(200)]
    rows = {name: ["same"] * 4400 for name in Widths.FACTORS} | {"kin": levels}
    factors = fitted_widths(np.array([0.4] * 4000 + [0.1] * 400), np.ones(4400), rows, sweeps).factors["kin"]
    assert factors["one"] == pytest.approx(0.25 ** (1 / 2), rel=0.02)
    assert factors["many"] == pytest.approx(0.25 ** (20 / 21), rel=0.02)
