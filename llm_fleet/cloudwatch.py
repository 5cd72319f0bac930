"""Metrics to CloudWatch: gathered in memory, sent in few calls, kept while CloudWatch does not answer.

publisher.sample("TimeToFirstToken", pool, ttft_ms, "Milliseconds")    one of many: all of them count
publisher.level("Backlog", pool, waiting)                              the last one before a flush counts
publisher.count("Refused", 3, reason="pool_empty")                     of the whole fleet: added up until a flush
publisher.flush()                                                      from a thread, every few seconds
"""

from __future__ import annotations

import math
import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.client import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

MAX_VALUES = 150
"""AWS's limit of distinct values in a datum."""
MAX_DATA = 1000
"""AWS's limit of data in a call; also how many are kept for later: about a quarter of an hour for three pools."""
MAX_BYTES = 900_000
"""AWS's limit of a call is 1 MB before compression; our sizes are estimates."""
DATUM_BYTES = 800
"""Of a datum in a call, without values: names, dimensions, time; generous."""
VALUE_BYTES = 120
"""Of a value and its count, in the wordiest protocol that botocore speaks to CloudWatch."""
_NEVER_ACCEPTED = ("InvalidParameter", "InvalidFormat", "MissingParameter", "Validation")
"""Beginnings of error codes that stay errors however often the same data are sent."""

_Series = tuple[str, str, str]  # name, pool, unit


class Publisher:
    """Gathers and sends the metrics of one process; safe to use from several threads."""

    def __init__(self, client: CloudWatchClient, namespace: str, pattern: str) -> None:
        self._client = client
        self._namespace = namespace
        self._pattern = pattern
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._samples: dict[_Series, dict[float, int]] = {}
        self._levels: dict[_Series, float] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._unsent: deque[MetricDatumTypeDef] = deque(maxlen=MAX_DATA)

    def sample(self, name: str, pool: str, value: float, unit: str) -> None:
        """Count a value, rounded to two significant digits. What is not a finite number is dropped."""
        if not math.isfinite(value):
            return
        rounded = float("%.2g" % value)  # noqa: UP031 a third faster than an f-string, and this is done per request
        series = (name, pool, unit)
        with self._lock:
            counts = self._samples.get(series)
            if counts is None:
                counts = self._samples[series] = {}
            counts[rounded] = counts.get(rounded, 0) + 1
            if len(counts) == MAX_VALUES:
                self._unsent.append(self._sampled(series, self._samples.pop(series)))

    def level(self, name: str, pool: str, value: float, unit: str = "Count") -> None:
        """Set a level. What is not a finite number is dropped."""
        if math.isfinite(value):
            with self._lock:
                self._levels[name, pool, unit] = value

    def count(self, name: str, amount: int, reason: str = "") -> None:
        """Add to a sum of the whole fleet, of which each process publishes its part; with a reason, to the reason's."""
        with self._lock:
            self._counts[name, reason] = self._counts.get((name, reason), 0) + amount

    def flush(self) -> None:
        """Send everything. What could not be sent is kept for the next flush, the oldest falling out first.

        Raises:
            ClientError: CloudWatch refused.
            BotoCoreError: it did not answer.
        """
        with self._flushing:
            waiting = self._take()
            while waiting:
                call = _next_call(waiting)
                try:
                    self._client.put_metric_data(Namespace=self._namespace, MetricData=call)
                except BaseException as error:
                    self._keep(waiting if _is_never_accepted(error) else [*call, *waiting])
                    raise

    def _take(self) -> deque[MetricDatumTypeDef]:
        with self._lock:
            data = deque(self._unsent)
            self._unsent.clear()
            data.extend(self._sampled(series, counts) for series, counts in self._samples.items())
            data.extend(self._of_pool(series, Value=value) for series, value in self._levels.items())
            data.extend(self._counted(name, reason, amount) for (name, reason), amount in self._counts.items())
            self._samples.clear()
            self._levels.clear()
            self._counts.clear()
        return data

    def _keep(self, data: deque[MetricDatumTypeDef] | list[MetricDatumTypeDef]) -> None:
        with self._lock:
            newer = list(self._unsent)
            self._unsent.clear()
            self._unsent.extend((*data, *newer))

    def _sampled(self, series: _Series, counts: dict[float, int]) -> MetricDatumTypeDef:
        return self._of_pool(series, Values=list(counts), Counts=list(counts.values()))

    def _counted(self, name: str, reason: str, amount: int) -> MetricDatumTypeDef:
        return self._datum(name, {"Reason": reason} if reason else {}, "Count", Value=amount)

    def _of_pool(self, series: _Series, **figures: float | list[float] | list[int]) -> MetricDatumTypeDef:
        name, pool, unit = series
        return self._datum(name, {"Pool": pool}, unit, **figures)

    def _datum(
        self, name: str, dimensions: dict[str, str], unit: str, **figures: float | list[float] | list[int]
    ) -> MetricDatumTypeDef:
        datum = {
            "MetricName": name,
            "Dimensions": [
                {"Name": each, "Value": value} for each, value in {"Pattern": self._pattern, **dimensions}.items()
            ],
            "Timestamp": datetime.now(UTC),
            "Unit": unit,
            **figures,
        }
        return cast("MetricDatumTypeDef", datum)


def _next_call(waiting: deque[MetricDatumTypeDef]) -> list[MetricDatumTypeDef]:
    """Take as many data as one call may hold."""
    call: list[MetricDatumTypeDef] = []
    size_bytes = 0
    while waiting and len(call) < MAX_DATA:
        size_bytes += DATUM_BYTES + VALUE_BYTES * len(waiting[0].get("Values", ()))
        if call and size_bytes > MAX_BYTES:
            break
        call.append(waiting.popleft())
    return call


def _is_never_accepted(error: BaseException) -> bool:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    return code.startswith(_NEVER_ACCEPTED)
