"""How long a plan takes: all accelerator types for one model in a warm process, and the command from a cold start."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _record import record

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.patterns import load_pattern, parse_overrides
from llm_fleet.planning.criteria import assess
from llm_fleet.planning.request import settle_requests

ROUNDS = 15
BUDGET_S = 0.050
"""What judging every type for one model may take."""
COLD_BUDGET_S = 0.7
"""What `llm-fleet plan` may take from a cold start."""


def judge_all_types() -> float:
    """Seconds to judge every type of the catalogue for the model of startup-mvp."""
    catalog = load_catalog()
    _, requests = settle_requests(load_pattern("startup-mvp"), parse_overrides({}), catalog, load_models())
    start = time.perf_counter()
    assess(requests[0], catalog)
    return time.perf_counter() - start


def cold(*words: str) -> float:
    """Seconds of a whole Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure both, each beside a bare interpreter, and write the result."""
    judge_all_types()
    judged = [judge_all_types() for _ in range(ROUNDS)]
    plans: list[float] = []
    bare: list[float] = []
    for _ in range(ROUNDS):
        plans.append(cold("-c", "from llm_fleet.cli import main; main(['plan', 'startup-mvp'])"))
        bare.append(cold("-c", "pass"))
    record(
        "plan",
        {
            "judge_all_types_over_50_ms": statistics.median(judged) / BUDGET_S,
            "cold_plan_over_700_ms": statistics.median(plans) / COLD_BUDGET_S,
            "cold_plan_over_bare_python": statistics.median(plans) / statistics.median(bare),
        },
        {"judge_all_types_s": judged, "cold_plan_s": plans, "bare_python_s": bare},
    )


if __name__ == "__main__":
    main()
