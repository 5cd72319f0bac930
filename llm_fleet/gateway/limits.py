"""Requests and tokens a minute of each key: token buckets that hold one minute's worth.

Every gateway task has its own buckets and grants its share of a limit, the limit divided by the tasks that run: an
approximation that is exact when the load balancer spreads a key's requests evenly.
"""

from __future__ import annotations

import math
import time

from llm_fleet.gateway.keys import ApiKey

MINUTE_S = 60.0
MAX_BUCKETS = 10_000
"""Keys with limits that were used within the last minute; beyond that buckets that are full again are forgotten."""


class _Bucket:
    __slots__ = ("at", "requests", "tokens")

    def __init__(self, at: float, requests: float, tokens: float) -> None:
        self.at = at
        self.requests = requests
        self.tokens = tokens


class Limits:
    """Of one gateway task."""

    def __init__(self) -> None:
        self.tasks = 1
        """Gateway tasks that run; whoever counts them sets it."""
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, key: ApiKey, tokens: int) -> float:
        """Take one request and its tokens from the key's buckets: 0.0; or the seconds until that would succeed.

        A request larger than a whole bucket goes when the bucket is full, and leaves a debt.
        """
        if key.requests_per_minute is None and key.tokens_per_minute is None:
            return 0.0
        most_requests = math.inf if key.requests_per_minute is None else key.requests_per_minute / self.tasks
        most_tokens = math.inf if key.tokens_per_minute is None else key.tokens_per_minute / self.tasks
        bucket = self._bucket(key.key_id, most_requests, most_tokens)
        if bucket.requests <= 1 or bucket.tokens <= tokens:
            wait_s = max(_wait_s(bucket.requests, 1, most_requests), _wait_s(bucket.tokens, tokens, most_tokens))
            if wait_s > 0.0:
                return wait_s
        bucket.requests -= 1
        bucket.tokens -= tokens
        return 0.0

    def settle(self, key: ApiKey, estimated: int, actual: int) -> None:
        """Give back, or take, what an admitted request used less or more than estimated."""
        if key.tokens_per_minute is not None and (bucket := self._buckets.get(key.key_id)) is not None:
            bucket.tokens += estimated - actual

    def _bucket(self, key_id: str, most_requests: float, most_tokens: float) -> _Bucket:
        """The key's bucket as it stands now."""
        now = time.monotonic()
        bucket = self._buckets.get(key_id)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._forget_idle(now)
            bucket = self._buckets[key_id] = _Bucket(now, most_requests, most_tokens)
            return bucket
        minutes = (now - bucket.at) / MINUTE_S
        bucket.at = now
        if bucket.requests != most_requests:
            bucket.requests = min(most_requests, bucket.requests + minutes * most_requests)
        if bucket.tokens != most_tokens:
            bucket.tokens = min(most_tokens, bucket.tokens + minutes * most_tokens)
        return bucket

    def _forget_idle(self, now: float) -> None:
        idle = [
            key_id
            for key_id, bucket in self._buckets.items()
            if now - bucket.at >= MINUTE_S and bucket.requests >= 0 and bucket.tokens >= 0
        ]
        for key_id in idle:
            del self._buckets[key_id]


def _wait_s(level: float, wanted: float, per_minute: float) -> float:
    """Seconds until a bucket holds what is wanted of it, which is never more than it can hold."""
    if per_minute <= 0:
        return MINUTE_S  # a limit of nothing admits nothing
    missing = min(wanted, per_minute) - level
    if missing <= 0:
        return 0.0
    return missing * MINUTE_S / per_minute
