"""The measured points that lie nearest to a configuration: what a reader can hold a prediction against."""

from __future__ import annotations

import functools
import math

from llm_fleet.calibration.calibrate import ONE_LOAD, POINTS
from llm_fleet.calibration.fit import main_figure
from llm_fleet.calibration.points import Point, read_points
from llm_fleet.calibration.score import FIGURES
from llm_fleet.calibration.setups import Resolver
from llm_fleet.sizing.case import Setup

OTHER_ARCHITECTURE = 4.0
OTHER_ACCELERATOR = 1.5
OTHER_ENGINE = 1.0
OTHER_FORMAT = 1.0
OTHER_MODE = 1.0
"""A point without a known number of requests in flight (offline, open loop) says little of one with it."""


@functools.cache
def _known() -> tuple[tuple[Point, Setup], ...]:
    resolver = Resolver()
    found: list[tuple[Point, Setup]] = []
    for point in read_points(POINTS).points:
        if point is None or point.left_out or not main_figure(point):
            continue
        setup = resolver.setup(point)
        if isinstance(setup, Setup):
            found.append((point, setup))
    return tuple(found)


def nearest_points(
    setup: Setup, input_tokens: float, output_tokens: float, concurrency: float, most: int
) -> list[dict[str, object]]:
    """The nearest points, each of another source or model, as columns of the points file."""
    device, traits = setup.device, setup.traits

    def distance(pair: tuple[Point, Setup]) -> float:
        point, other = pair
        total = abs(math.log(other.traits.params / traits.params))
        total += 0.5 * abs(math.log(other.layout.tensor_parallel / setup.layout.tensor_parallel))
        total += 0.3 * abs(math.log((point.concurrency or 16.0) / concurrency))
        total += 0.1 * abs(math.log(max(point.input_tokens or 512.0, 1.0) / input_tokens))
        total += 0.1 * abs(math.log(max(point.output_tokens or 256.0, 1.0) / output_tokens))
        if other.device.name != device.name:
            same = other.device.architecture == device.architecture
            total += OTHER_ACCELERATOR if same else OTHER_ARCHITECTURE
        total += OTHER_MODE * (point.mode not in ONE_LOAD)
        total += OTHER_ENGINE * (other.engine != setup.engine)
        return total + OTHER_FORMAT * (other.traits.expert_format != traits.expert_format)

    chosen: list[dict[str, object]] = []
    seen: set[tuple[str, str, str]] = set()
    for point, other in sorted(_known(), key=distance):
        kin = (point.source_id, point.model, point.accelerator)
        if kin in seen:
            continue
        seen.add(kin)
        kind, value = main_figure(point) or (0, 0.0)
        chosen.append(
            {
                "source_id": point.source_id,
                "model": point.model,
                "precision": other.traits.precision,
                "accelerator": point.accelerator,
                "tensor_parallel": other.layout.tensor_parallel,
                "engine": f"{point.engine} {point.engine_version}".strip(),
                "mode": point.mode,
                "concurrency": point.concurrency or (1.0 if point.mode == "single_stream" else ""),
                "input_tokens": point.input_tokens or 0.0,
                "output_tokens": point.output_tokens or 0.0,
                FIGURES[kind]: value,
            }
        )
        if len(chosen) == most:
            break
    return chosen
