"""Requests of one session, or with one prompt prefix, prefer the same engine: its prefix cache is warm.

Rendezvous hashing with bounded load. Every engine has a score for a key and the best score wins, so there is no table
of sessions to keep, an engine that leaves moves only its own keys, and all gateway tasks choose alike. An engine loaded
far above the mean is passed over for the next score: affinity never starves its neighbours.
"""

from __future__ import annotations

import hashlib

OVERLOAD = 1.25
"""How far above the mean an engine's outstanding tokens may be before its sessions go elsewhere."""
_GOLDEN_RATIO = 0x9E3779B97F4A7C15
"""Multiplicative hashing: 2^64 by the golden ratio, odd."""
_64_BITS = (1 << 64) - 1


def seed(host: str, port: int) -> int:
    """The engine's share of a score: the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{host}:{port}".encode()).digest()[:7], "big")


def score(key: int, seed: int) -> int:
    """How much a key prefers an engine. Python's hash of the two would be a little faster, and gives some engines three
    times the share of others; this one is within a few percent.
    """
    return ((key ^ seed) * _GOLDEN_RATIO) & _64_BITS


def bound_tokens(outstanding_tokens: int, engines: int, request_tokens: int) -> float:
    """The most tokens that an engine may have outstanding to be preferred."""
    return OVERLOAD * outstanding_tokens / engines + request_tokens
