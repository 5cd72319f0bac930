"""How long the kit's synthesis of startup-mvp takes, beside plain CDK that writes as many resources of each type.

Both run as whole processes, in pairs, each pair in the other order than the one before, with the feature flags of
cdk.json, without cdk-nag, on the Node of the virtual environment. `tests/bench` keeps the two alike. Aim: a ratio of at
most 1.10.

The load average before each pair stands beside the figures: with other work on the machine, more running than it has
cores, no ratio of them means anything.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _record import record

from app import use_packaged_node

ROOT = Path(__file__).parents[1]
PAIRS = 10
KIT = ("app.py", "-c", "pattern=startup-mvp", "-c", "nag=off")
BARE = ("-m", "bench.bare_app")


def synthesize(words: Sequence[str]) -> tuple[float, float]:
    """Wall clock and CPU seconds of one Python process with its Node, into an empty folder.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CDK_")}
        environment["CDK_OUTDIR"] = folder
        use_packaged_node(environment)
        start, cpu_start_s = time.perf_counter(), _children_cpu_s()
        subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start, _children_cpu_s() - cpu_start_s


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Warm the file caches with one run of each, measure the pairs, write the result."""
    sides = {"kit": KIT, "bare": BARE}
    for words in sides.values():
        synthesize(words)
    figures: dict[str, list[float]] = {f"{side}_{unit}": [] for unit in ("s", "cpu_s") for side in sides}
    figures["load_average_1min"] = []
    for pair in range(PAIRS):
        figures["load_average_1min"].append(os.getloadavg()[0])
        for side in sorted(sides, reverse=bool(pair % 2)):
            wall_s, cpu_s = synthesize(sides[side])
            figures[f"{side}_s"].append(wall_s)
            figures[f"{side}_cpu_s"].append(cpu_s)
    record(
        "synth",
        {
            "kit_over_bare_median": statistics.median(figures["kit_s"]) / statistics.median(figures["bare_s"]),
            "kit_over_bare_minimum": min(figures["kit_s"]) / min(figures["bare_s"]),
            "kit_over_bare_pair_median": statistics.median(
                kit_s / bare_s for kit_s, bare_s in zip(figures["kit_s"], figures["bare_s"], strict=True)
            ),
            "kit_over_bare_cpu_median": statistics.median(figures["kit_cpu_s"])
            / statistics.median(figures["bare_cpu_s"]),
        },
        figures,
    )


if __name__ == "__main__":
    main()
