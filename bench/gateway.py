"""What the gateway costs beside nginx, vllm-router and LiteLLM's proxy: same upstream and load, one core for the proxy.

The main figure is CPU time of the proxy's process tree, from /proc, for each request and each chunk of a stream: it
hardly depends on what else the machine does. Latencies do. So all proxies run at once and are measured in turn, in
rounds that alternate their order, and every ratio is the median of the rounds' own ratios. `neighbours_cores` says how
many cores other processes kept busy meanwhile.

    plain      32 connections, closed loop, answers of 1 KB
    steady     500 requests a second at even distances; LiteLLM, which cannot carry that, 30
    flat       8 connections, streams of 100 chunks as fast as they come
    paced      256 streams of 100 chunks, 10 ms apart; LiteLLM 4
    first      64 such streams, for the time to first token; LiteLLM 4
    crowd      2,000 streams at once, a chunk every 500 ms: memory; without LiteLLM

    python bench/gateway.py [--rounds N] [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from _record import record

from bench.gateway_load import fleet, proxies, tools
from bench.gateway_load.measures import CROWD, LIGHT, MEASURES, Measure, Run, run
from bench.gateway_load.process_tree import busy_s, cpu_s
from bench.gateway_load.proxies import Proxy
from bench.gateway_load.tools import BenchError
from localcloud.cloud import free_port

FOLDER = Path(__file__).parents[1] / ".bench"
ROUNDS = 5
WARM_UP_S = 0.5
DIRECT, GATEWAY, NGINX, VLLM_ROUTER, LITELLM = "direct", "gateway", "nginx", "vllm_router", "litellm"
MAKERS: Mapping[str, Callable[[Path, int], contextlib.AbstractContextManager[Proxy]]] = {
    GATEWAY: fleet.gateway,
    NGINX: proxies.nginx,
    VLLM_ROUTER: proxies.vllm_router,
    LITELLM: proxies.litellm,
}

Figures = dict[str, list[float]]


def measure_all(targets: Sequence[Proxy], rounds: int) -> Figures:
    """Every measure of every target, in rounds that alternate their order."""
    figures: Figures = {}
    for target in targets:  # connections, caches and code paths as they are after the first minute of service
        for measure in MEASURES:
            _run(measure, target, {}, WARM_UP_S)
    for measure in MEASURES:
        for number in range(rounds):
            start_s, busy_before_s, ours_before_s = time.perf_counter(), busy_s(), cpu_s(os.getpid())
            for target in targets if number % 2 == 0 else reversed(targets):
                _run(measure, target, figures)
            elapsed_s = time.perf_counter() - start_s
            neighbours_s = busy_s() - busy_before_s - (cpu_s(os.getpid()) - ours_before_s)
            figures.setdefault(f"{measure.name}_neighbours_cores", []).append(neighbours_s / elapsed_s)
        sys.stderr.write(f"measured {measure.name}\n")
    for target in targets:
        if target.name not in (DIRECT, LITELLM):
            _run(CROWD, target, figures)
    return figures


def _run(measure: Measure, target: Proxy, figures: Figures, seconds: float | None = None) -> None:
    if target.name == LITELLM:
        measure = LIGHT.get(measure.name, measure)
    done = run(FOLDER, replace(measure, seconds=seconds or measure.seconds), target.port, target.pid, target.key)
    for quantity, value in _quantities(measure.name, done).items():
        figures.setdefault(f"{measure.name}_{target.name}_{quantity}", []).append(value)


def _quantities(name: str, done: Run) -> dict[str, float]:
    load = done.load
    if name == "plain":
        return {
            "cpu_us_per_request": done.cpu_us_per_request,
            "requests_per_s": load.requests / load.elapsed_s,
            "rss_mb": done.peak_rss_bytes / 1e6,
        }
    if name == "steady":
        return {"cpu_us_per_request": done.cpu_us_per_request, "p50_ms": load.p50_us / 1e3, "p99_ms": load.p99_us / 1e3}
    if name == "first":
        return {"first_p50_ms": load.first_p50_us / 1e3, "first_p99_ms": load.first_p99_us / 1e3}
    if name == CROWD.name:
        return {"cpu_us_per_chunk": done.cpu_us_per_chunk, "rss_mb": done.peak_rss_bytes / 1e6}
    return {"cpu_us_per_chunk": done.cpu_us_per_chunk, "chunks_per_s": load.events / load.elapsed_s}


def ratios(figures: Figures) -> dict[str, float]:
    """What the aims are about. A ratio of a proxy that did not run is left out."""
    found: dict[str, float] = {}

    def ratio(name: str, top: str, bottom: str) -> None:
        if top in figures and bottom in figures:
            found[name] = statistics.median(a / b for a, b in zip(figures[top], figures[bottom], strict=True))

    for unit, measures in (("request", ("plain",)), ("chunk", ("paced", "flat"))):
        for measure in measures:
            end = f"cpu_us_per_{unit}"
            name = f"cpu_per_{unit}" + ("_flat" if measure == "flat" else "")
            for peer in (NGINX, VLLM_ROUTER):
                ratio(f"gateway_over_{peer}_{name}", f"{measure}_gateway_{end}", f"{measure}_{peer}_{end}")
            ratio(f"litellm_over_gateway_{name}", f"{measure}_litellm_{end}", f"{measure}_gateway_{end}")
    for peer in (GATEWAY, NGINX, VLLM_ROUTER):
        for measure, quantity in (("steady", "p50_ms"), ("steady", "p99_ms"), ("first", "first_p50_ms")):
            through, without = (figures.get(f"{measure}_{name}_{quantity}") for name in (peer, DIRECT))
            if through and without:
                added = statistics.median(a - b for a, b in zip(through, without, strict=True))
                found[f"added_{quantity}" + ("" if peer == GATEWAY else f"_{peer}")] = added
    for peer in (GATEWAY, NGINX, VLLM_ROUTER):
        if f"crowd_{peer}_rss_mb" in figures:
            found[f"rss_mb_of_2000_streams_{peer}"] = figures[f"crowd_{peer}_rss_mb"][0]
    return found


def main() -> None:
    """Start everything, measure, write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default=",".join(MAKERS), help="names of proxies, with commas")
    words = parser.parse_args()
    versions: dict[str, str] = {}
    notes = ["latencies hold for a quiet machine only: compare neighbours_cores, which is 0 on one"]
    tools.build(FOLDER)
    with contextlib.ExitStack() as stack:
        port = free_port()
        pid = stack.enter_context(tools.upstream(FOLDER, port))
        targets = [Proxy(DIRECT, "", port, pid, "sk-none")]
        for name in words.only.split(","):
            try:
                targets.append(stack.enter_context(MAKERS[name](FOLDER, port)))
                versions[name] = targets[-1].version
            except BenchError as error:
                if name == GATEWAY:
                    sys.exit(f"bench-gateway: {error}")
                notes.append(f"without {name}: {error}")
        figures = measure_all(targets, words.rounds)
    if LITELLM in versions:
        notes.append("LiteLLM: one worker, LITELLM_MODE=PRODUCTION, no database, master key only")
    record(
        "gateway", ratios(figures), figures, versions=versions, notes=notes, packages=("httptools", "orjson", "uvloop")
    )


if __name__ == "__main__":
    main()
