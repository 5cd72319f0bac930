"""`llm-fleet validate`: how far predictions are from the measurements of a points file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from llm_fleet.calibration.estimate import estimate, scored
from llm_fleet.calibration.points import read_points
from llm_fleet.calibration.price import device_usd_per_hour
from llm_fleet.calibration.score import Line, Scored, regret, table
from llm_fleet.errors import InputError, Problem

NEAR = 0.05
"""A choice whose tokens cost at most this much more than the best in hindsight is as good."""
TITLES = {"overall": "", "accelerator": "accelerator", "engine": "engine class", "mode": "mode", "source_id": "source"}


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
