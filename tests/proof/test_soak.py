"""Many requests: every answer right, memory flat, nothing left over. `make soak` sends a million."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.cloud import LocalCloud
from tests.proof.door import POOL, Door, open_door
from tests.proof.findings import Findings
from tests.proof.fleet import Fleet
from tests.proof.load import load
from tests.proof.processes import wait_until
from tests.proof.raw import gauges

PARTS = 10
CONNECTIONS = 64
LATER_GROWTH_BYTES = 8 << 20
"""Between the middle and the end of a run: what grows with every request would be far beyond it in a long one."""
P99_RATIO = 3
"""Of the last tenth to the first, in the long run: other work on the machine moves it too."""


@pytest.fixture(scope="module")
def fresh(cloud: LocalCloud, folder: Path) -> Iterator[Door]:
    fleet = Fleet(cloud, folder, pools=[POOL])
    yield open_door(fleet, engines=2)
    fleet.stop()


@pytest.mark.parametrize(
    "requests", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)], ids=["short", "a-million"]
)
def test_many_requests_leave_no_trace(fresh: Door, findings: Findings, requests: int) -> None:
    load(fresh.port, fresh.key, requests=1000, connections=CONNECTIONS)
    before = counted(fresh)
    memory, p99_ms, problems = [fresh.gateway.rss_bytes()], [], {}
    for _ in range(PARTS):
        seen = load(fresh.port, fresh.key, requests=requests // PARTS, connections=CONNECTIONS)
        memory.append(fresh.gateway.rss_bytes())
        p99_ms.append(seen.p99_ms())
        problems |= seen.wrong
    wait_until(fresh.is_idle, 60, "nothing is under way")
    findings.say(
        requests=requests,
        rss_mb="/".join(f"{size / 2**20:.1f}" for size in memory),
        p99_ms_first_tenth=round(p99_ms[0], 1),
        p99_ms_last_tenth=round(p99_ms[-1], 1),
    )
    assert not problems
    assert counted(fresh) - before == requests
    assert memory[-1] - memory[PARTS // 2] < LATER_GROWTH_BYTES
    if requests >= 1_000_000:
        assert p99_ms[-1] < P99_RATIO * p99_ms[0]


def counted(door: Door) -> float:
    """Requests to the pool that the gateway has counted."""
    said = gauges(door.port)
    return sum(value for name, value in said.items() if name.startswith(f'llm_fleet_requests_total{{pool="{POOL}"'))
