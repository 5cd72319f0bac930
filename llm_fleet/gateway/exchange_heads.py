"""Header lines of exchanges, towards the engine and towards the client."""

from __future__ import annotations

from functools import lru_cache

REMEMBERED_LINES = 4096
"""Header lines that are made once: the same few engines, decisions and maxima come again and again."""


@lru_cache(REMEMBERED_LINES)
def request_lines(path: str, host: str, port: int) -> bytes:
    """How requests to an engine begin."""
    return f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n".encode()


@lru_cache(REMEMBERED_LINES)
def decision_lines(pool: str, reason: str, worker_id: str, cost_usd: float | None) -> bytes:
    """What a client reads of the gateway's decision; `cost_usd` is that of the largest completion it allows."""
    cost = "" if cost_usd is None else f"x-llm-fleet-cost-usd: {cost_usd:.8f}\r\n"
    return (
        f"x-llm-fleet-pool: {pool}\r\nx-llm-fleet-reason: {reason}\r\nx-llm-fleet-worker: {worker_id}\r\n{cost}"
    ).encode("ascii", "replace")
