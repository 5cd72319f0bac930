"""The fit finds what made the data, stays physical, and the committed file is what it found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llm_fleet.calibration.calibrate import POINTS, served
from llm_fleet.calibration.estimate import estimate, scored
from llm_fleet.calibration.fit import fit, residuals_of
from llm_fleet.calibration.points import read_points
from llm_fleet.calibration.predict import predict
from llm_fleet.calibration.setups import Resolver, batch_of
from llm_fleet.errors import InputError
from llm_fleet.sizing.coefficient_file import PATH, calibration, read_calibration
from llm_fleet.sizing.coefficients import TERMS


def test_the_committed_points_have_no_bad_row():
    assert not read_points(POINTS).problems


def test_the_committed_coefficients_give_the_recorded_errors():
    table = read_points(POINTS)
    lines = {point.line for point in table.points if point and not point.left_out and served(point)}
    estimated = estimate(table)
    errors = [row.error for row in scored(estimated) if row.line in lines and not row.engine.startswith("neuron")]
    recorded = calibration().recorded
    assert len(errors) == recorded["in_sample_gpu_rows"]
    assert np.median(errors) == pytest.approx(recorded["in_sample_gpu_median"], abs=2e-4)
    assert np.quantile(errors, 0.9) == pytest.approx(recorded["in_sample_gpu_p90"], abs=1e-3)


def test_a_fit_moves_towards_what_made_the_data():
    source = "argonne-llm-inference-bench"
    every = [point for point in read_points(POINTS).points if point and point.source_id == source]
    batch, _ = batch_of(every, Resolver())
    known = calibration().coefficients.rates(batch.levels)
    made = predict(batch, {**known, "layer_us": known["layer_us"] * 1.5})
    points = [
        type(point)(**{**fields_of(point), "tpot_ms": float(made.tpot_ms[place]), "ttft_ms": None})
        for place, point in enumerate(every)
    ]
    batch, _ = batch_of(points, Resolver())
    compared = residuals_of(batch, points)
    found = fit(batch, compared)
    after = predict(batch, found.coefficients.rates(batch.levels))
    assert np.median(np.abs(after.tpot_ms / made.tpot_ms - 1)) < 0.05


def fields_of(point: object) -> dict[str, object]:
    return {name: getattr(point, name) for name in type(point).__dataclass_fields__}  # pyright: ignore[reportAttributeAccessIssue]


def test_every_coefficient_stays_in_its_physical_range():
    batch, _ = batch_of(read_points(POINTS).points, Resolver())
    for name, values in calibration().coefficients.rates(batch.levels).items():
        term = next(term for term in TERMS if term.name == name)
        assert (values > 0).all(), name
        assert term.kind == "cost" or (values < term.most).all(), name


def test_a_coefficient_outside_its_range_is_refused(tmp_path: Path):
    broken = tmp_path / "efficiency.yaml"
    text = PATH.read_text()
    start = text.index("  weights_share:")
    place = text.index("value: ", start) + len("value: ")
    broken.write_text(text[:place] + "1.2" + text[text.index(",", place) :])
    with pytest.raises(InputError, match="outside its physical range"):
        read_calibration(broken)


def test_a_missing_calibration_says_what_writes_it(tmp_path: Path):
    with pytest.raises(InputError, match="make calibrate"):
        read_calibration(tmp_path / "none.yaml")
