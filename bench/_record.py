"""Writes a benchmark's result where it can be compared over time: bench/results/NAME.json."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_fleet.whole_file import write_whole

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("aws-cdk-lib", "cdk-nag", "pydantic", "pyyaml")


def record(
    name: str,
    ratios: Mapping[str, float],
    figures: Mapping[str, Sequence[float]],
    *,
    packages: Sequence[str] = PACKAGES,
    versions: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the file whole and print the ratios.

    `packages` are those whose versions matter, `versions` what else ran, `notes` what a reader must know.
    """
    known = {"python": platform.python_version()}
    known |= {package: importlib.metadata.version(package) for package in packages}
    known |= versions or {}
    rounded = {key: round(value, 4) for key, value in ratios.items()}
    result = {
        "command": f"make bench-{name}",
        "versions": known,
        **({"notes": list(notes)} if notes else {}),
        "ratios": rounded,
        "figures": {key: [round(value, 5) for value in values] for key, values in figures.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    write_whole(RESULTS / f"{name}.json", json.dumps(result, indent=2) + "\n")
    for key, value in rounded.items():
        sys.stdout.write(f"{name}: {key} = {value}\n")
