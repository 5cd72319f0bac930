"""How many lines an engine gets at once, so that batch work yields to whoever waits for an answer. Pure.

The limit falls by half at each look while requests of others wait inside the engine, and rises by a sixteenth of the
slots while nothing waits and there is room. It never falls below one: a batch that only ever waits would expire.
"""

from __future__ import annotations

from llm_fleet.worker.engine_metrics import EngineLoad


def first_limit(slots: int) -> int:
    """Where to start, before the engine was looked at: a quarter of what it can run."""
    return max(1, slots // 4)


def next_limit(limit: int, slots: int, own: int, load: EngineLoad) -> int:
    """The limit until the next look. `own` is how many of the engine's requests are ours."""
    waiting, requests = load.waiting or 0, load.requests
    others = max(0, requests - own) if requests is not None else 0
    if waiting and others:
        return halved(min(limit, max(own, 1)))
    if waiting:
        # Only ours wait: the engine runs fewer at once than its settings say, and what waits would be in the way.
        return max(1, min(limit, own - waiting))
    if others + limit >= slots:
        return min(limit, slots)
    return min(slots, limit + -(-slots // 16))


def halved(limit: int) -> int:
    """The limit after an engine refused a request for being overloaded."""
    return max(1, limit // 2)


def ahead(limit: int) -> int:
    """Lines to hold beyond the limit, so that the next one is there when an engine has room."""
    return -(-limit // 4)
