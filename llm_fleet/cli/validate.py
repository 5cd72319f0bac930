"""`llm-fleet validate`: how far predictions are from the measurements of a points file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from llm_fleet.calibration.estimate import estimate, scored
from llm_fleet.calibration.points import read_points
from llm_fleet.calibration.price import device_usd_per_hour
from llm_fleet.calibration.score import Scored, as_text, regret, table
from llm_fleet.errors import InputError, Problem

NEAR = 0.05
"""A choice whose tokens cost at most this much more than the best in hindsight is as good."""


def validate(path: str, as_json: bool, plot: str | None) -> tuple[str, str, int]:
    """Text for the user, problems for stderr, and the exit code: 1 where rows were bad.

    Raises:
        InputError: the file cannot be used, nothing in it can be judged, or the plot cannot be drawn.
    """
    points = read_points(Path(path))
    estimated = estimate(points)
    rows = scored(estimated)
    if not rows:
        message = "holds no row that has both a prediction and a measured tpot_ms, output_ or total_tokens_per_s"
        raise InputError(Problem(path, message))
    lines = table(rows)
    if plot:
        draw(rows, Path(plot))
    costs = regret(rows, device_usd_per_hour())
    near = sum(cost <= NEAR for cost in costs)
    problems = "\n".join(str(problem) for problem in points.problems.values())
    measured = len(rows)
    predicted = len(estimated.place_of)
    if as_json:
        data = {
            "rows": len(points.rows),
            "predicted": predicted,
            "judged": measured,
            "choices": len(costs),
            "choices_within_5_percent_of_the_best": near,
            "groups": [{k: _plain(v) for k, v in dataclasses.asdict(line).items()} for line in lines],
        }
        text = json.dumps(data, indent=2)
    else:
        text = f"{len(points.rows)} rows, {predicted} predicted, {measured} with a measurement\n{as_text(lines)}"
        text += f"\ncheapest accelerator chosen within 5 % of the best: {near} of {len(costs)} workloads"
    return text, problems, 1 if points.problems else 0


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def draw(rows: list[Scored], path: Path) -> None:
    """Measured against predicted, one dot a row.

    Raises:
        InputError: the plotting library is not installed, or the file cannot be written.
    """
    try:
        from llm_fleet.calibration.plot import scatter
    except ImportError as error:
        fix = "it comes with make setup; pip install matplotlib adds it elsewhere"
        raise InputError(Problem("--plot", f"{error.name} is missing; {fix}")) from error
    scatter(rows, path)
