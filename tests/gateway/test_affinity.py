"""Affinity by rendezvous hashing: the same choice everywhere, little movement, fair shares."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from zlib import crc32

from llm_fleet.gateway import affinity

ENGINES = [("10.0.0.1", 8000), ("10.0.0.1", 8001), ("10.0.0.2", 8000), ("10.0.0.3", 8000)]
SESSIONS = [crc32(f"session {number}".encode()) for number in range(4000)]


def choice(session: int, engines: list[tuple[str, int]]) -> tuple[str, int]:
    return max(engines, key=lambda engine: affinity.score(session, affinity.seed(*engine)))


def test_sessions_are_spread_over_the_engines() -> None:
    shares = Counter(choice(session, ENGINES) for session in SESSIONS)
    assert set(shares) == set(ENGINES)
    assert all(900 < share < 1100 for share in shares.values())


def test_an_engine_that_leaves_moves_only_its_own_sessions() -> None:
    fewer = ENGINES[1:]
    for session in SESSIONS:
        before = choice(session, ENGINES)
        if before != ENGINES[0]:
            assert choice(session, fewer) == before


def test_every_process_chooses_alike() -> None:
    script = (
        "from llm_fleet.gateway import affinity as a;"
        "print(a.score(4711, a.seed('10.0.0.1', 8000)), a.score(2**32 - 1, a.seed('h', 1)))"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    ours = [
        affinity.score(4711, affinity.seed("10.0.0.1", 8000)),
        affinity.score(2**32 - 1, affinity.seed("h", 1)),
    ]
    assert [int(score) for score in other] == ours


def test_the_bound_lies_a_quarter_above_the_mean_and_allows_one_request_more() -> None:
    assert affinity.bound_tokens(outstanding_tokens=4000, engines=4, request_tokens=300) == 1250 + 300
