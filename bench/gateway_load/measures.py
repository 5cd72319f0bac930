"""What is measured of each proxy, and one run of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from bench.gateway_load import tools
from bench.gateway_load.process_tree import cpu_s, rss_bytes
from bench.gateway_load.tools import Load

SAMPLE_S = 0.25


@dataclass(frozen=True)
class Measure:
    """One kind of load. `rate` 0 is a closed loop; `stream` as the upstream knows it, empty for plain answers."""

    name: str
    connections: int
    seconds: float
    rate: float = 0
    stream: str = ""


MEASURES = (
    Measure("plain", 32, 3),
    Measure("steady", 32, 4, rate=500),
    Measure("flat", 8, 2, stream="pace-0-chunks-100"),
    Measure("paced", 256, 3, stream="pace-10-chunks-100"),
    Measure("first", 64, 2, stream="pace-10-chunks-100"),
)
CROWD = Measure("crowd", 2000, 8, stream="pace-500-chunks-16")
"""Once, at the end: what a proxy grew to stays."""
LIGHT = {
    "steady": Measure("steady", 8, 4, rate=30),
    "flat": Measure("flat", 8, 2, stream="pace-0-chunks-100"),
    "paced": Measure("paced", 4, 3, stream="pace-10-chunks-100"),
    "first": Measure("first", 4, 2, stream="pace-10-chunks-100"),
}
"""For LiteLLM, in place of loads that it cannot carry on one core."""


@dataclass(frozen=True)
class Run:
    """One run and what it took. CPU time and memory are those of the measured process tree."""

    load: Load
    cpu_s: float
    peak_rss_bytes: int

    @property
    def cpu_us_per_request(self) -> float:
        """CPU microseconds of one request."""
        return self.cpu_s * 1e6 / self.load.requests

    @property
    def cpu_us_per_chunk(self) -> float:
        """CPU microseconds of one chunk of a stream, its share of the request included."""
        return self.cpu_s * 1e6 / self.load.events


def run(folder: Path, measure: Measure, port: int, pid: int, key: str) -> Run:
    """Put the load on a port, and watch the process tree behind it.

    Raises:
        BenchError: an answer was missing, cut or not 200.
    """
    request = tools.chat_request(port, key, measure.stream)
    over, peak = threading.Event(), [rss_bytes(pid)]

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            peak.append(rss_bytes(pid))

    watcher = threading.Thread(target=watch)
    before_s = cpu_s(pid)
    watcher.start()
    try:
        load = tools.run_load(folder, port, request, measure.connections, measure.seconds, measure.rate)
    finally:
        over.set()
        watcher.join()
    return Run(load, cpu_s(pid) - before_s, max(peak))
