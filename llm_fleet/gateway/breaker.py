"""The breaker of an engine: after failures in a row nothing goes there, then one probe at a time.

Only refused connections and 5xx count. A long answer is no failure, and neither is a client that leaves.
"""

from __future__ import annotations

from typing import Literal

FAILURES_IN_A_ROW = 3
FIRST_PAUSE_S = 2.0
"""Before the first probe. A crashed engine restarts in seconds at best."""
LONGEST_PAUSE_S = 30.0
"""The pause doubles from probe to probe up to here."""

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """Of one engine. Times are those of time.monotonic()."""

    __slots__ = ("_failures", "_pause_s", "_probe_at", "_probing", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        """Whether ordinary requests must keep away; a plain attribute, because it is read for every request."""
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._probe_at = 0.0
        self._probing = False

    def state(self, now: float) -> BreakerState:
        """For metrics."""
        if not self.is_open:
            return "closed"
        return "half-open" if self._probing or now >= self._probe_at else "open"

    def may_probe(self, now: float) -> bool:
        """Whether an open breaker lets one request through."""
        return not self._probing and now >= self._probe_at

    def begin_probe(self) -> None:
        """One request goes; `succeeded`, `failed` or `probe_left` must follow."""
        self._probing = True

    def succeeded(self, *, probe: bool) -> None:
        """An answer below 500. While open only the probe's counts: an older request may end well after the engine
        stopped taking new ones.
        """
        if probe:
            self.is_open = self._probing = False
            self._pause_s = FIRST_PAUSE_S
        if not self.is_open:
            self._failures = 0

    def failed(self, now: float, *, probe: bool) -> None:
        """A refused connection or a 5xx."""
        if probe:
            self._probing = False
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._probe_at = now + self._pause_s
        elif not self.is_open:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                self.is_open = True
                self._probe_at = now + self._pause_s

    def probe_left(self) -> None:
        """The probe's client left before an answer: nothing was learnt, the next request probes."""
        self._probing = False
