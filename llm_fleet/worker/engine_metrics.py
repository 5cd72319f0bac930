"""What an engine says about its queue. Engines name the same figures differently; one that says nothing is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricNames:
    """Of one engine's metrics page."""

    running: str
    waiting: str
    generated_tokens: str
    """A counter that rises while the engine generates."""


NAMES: Mapping[str, MetricNames] = {
    "vllm": MetricNames("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:generation_tokens_total"),
    "llama.cpp": MetricNames(
        "llamacpp:requests_processing", "llamacpp:requests_deferred", "llamacpp:tokens_predicted_total"
    ),
}
"""Read at vLLM 0.16 to 0.33 and llama.cpp's server."""


@dataclass(frozen=True)
class EngineLoad:
    """Requests inside an engine, whoever sent them. None: the engine does not say."""

    running: int | None = None
    waiting: int | None = None
    generated_tokens: int | None = None

    @property
    def requests(self) -> int | None:
        """Running and waiting."""
        return None if self.running is None or self.waiting is None else self.running + self.waiting


def parse_load(page: str) -> EngineLoad:
    """The figures of a metrics page, summed over labels (an engine may report for each of its parts)."""
    sums: dict[str, float] = {}
    for line in page.splitlines():
        name, _, rest = line.partition(" ") if "{" not in line else line.partition("{")
        value = (rest.rpartition("}")[2] if "{" in line else rest).split()
        if name.startswith("#") or not value:
            continue
        try:
            sums[name] = sums.get(name, 0.0) + float(value[0])
        except ValueError:
            continue
    for names in NAMES.values():
        if names.running in sums:
            return EngineLoad(
                _count(sums, names.running), _count(sums, names.waiting), _count(sums, names.generated_tokens)
            )
    return EngineLoad()


def _count(sums: Mapping[str, float], name: str) -> int | None:
    value = sums.get(name)
    return int(value) if value is not None and 0 <= value < 1e18 else None
