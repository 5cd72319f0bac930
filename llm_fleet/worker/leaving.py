"""Why and when this worker leaves.

    spot notice                        the instance ends within two minutes, whatever anybody does
    target state Terminated            scale-in, rebalancing, refresh: the group waits at the terminate hook
    SIGTERM                            somebody stops the worker; the instance stays

A rebalance recommendation is no reason: it comes early and often, and the group answers it by itself, starting the
replacement before it terminates this instance through the hook. Nor is there protection from scale-in: it would also
keep the group from rebalancing and from renewing instances, and the hook already guards the work.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime

from llm_fleet.json_log import JsonLog
from llm_fleet.worker.imds import Imds, ImdsError

SPOT_PATH = "spot/instance-action"
STATE_PATH = "autoscaling/target-lifecycle-state"
REBALANCE_PATH = "events/recommendations/rebalance"
SPOT_NOTICE_S = 120


class Departure:
    """Whether the worker leaves, and until when. The first reason starts it; a later one can only shorten it."""

    def __init__(self, log: JsonLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._deadline = float("inf")
        self._reasons: set[str] = set()
        self.begun = threading.Event()
        """Set once and for good."""
        self.of_the_instance = False
        """Whether the instance goes too: then its hook waits for a word."""

    def begin(self, reason: str, budget_s: float, *, of_the_instance: bool) -> None:
        """Leave within `budget_s`. The same reason again changes nothing."""
        with self._lock:
            if reason in self._reasons:
                return
            self._reasons.add(reason)
            self._deadline = min(self._deadline, time.monotonic() + budget_s)
            self.of_the_instance = self.of_the_instance or of_the_instance
        self._log.event("leaving", reason=reason, budget_s=round(self.remaining_s(), 1))
        self.begun.set()

    def remaining_s(self) -> float:
        """What is left of the budget; 0 when it is used up."""
        return max(0.0, self._deadline - time.monotonic())


class Notices:
    """Looks for reasons in the instance's metadata. Silence means "unknown", never "no notice"."""

    def __init__(self, imds: Imds, departure: Departure, log: JsonLog, *, drain_s: float, spot_budget_s: float) -> None:
        self._imds = imds
        self._departure = departure
        self._log = log
        self._drain_s = drain_s
        self._spot_budget_s = spot_budget_s
        self._said: set[str] = set()

    def watch(self, every_s: float, stopped: threading.Event) -> None:
        """Look again and again until `stopped`: a thread's work."""
        while not stopped.wait(every_s):
            self.look()

    def look(self) -> None:
        """Look once."""
        try:
            notice = self._imds.get(SPOT_PATH)
            if notice is not None:
                budget_s = min(self._spot_budget_s, _until_reclaim_s(notice, self._spot_budget_s))
                self._departure.begin("spot", budget_s, of_the_instance=True)
            if self._imds.get(STATE_PATH) == "Terminated":
                self._departure.begin("terminated", self._drain_s, of_the_instance=True)
            if self._imds.get(REBALANCE_PATH) is not None:
                self._say_once("rebalance_recommended")
            self._said.discard("metadata_unknown")
        except ImdsError as error:
            self._say_once("metadata_unknown", error=str(error))

    def _say_once(self, event: str, **facts: object) -> None:
        if event not in self._said:
            self._said.add(event)
            self._log.event(event, **facts)


def _until_reclaim_s(notice: str, spot_budget_s: float) -> float:
    """Budget by the time that the notice names: a worker that starts after the notice has less than the whole."""
    try:
        end = datetime.fromisoformat(json.loads(notice)["time"]).timestamp()
    except (ValueError, KeyError, TypeError, AttributeError):
        return spot_budget_s
    left_s = end - time.time()
    return max(0.0, left_s - (SPOT_NOTICE_S - spot_budget_s)) if 0 < left_s <= SPOT_NOTICE_S else spot_budget_s
