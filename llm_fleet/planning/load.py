"""Request rates of a pool: low, expected, peak, and how a month is divided between them."""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.patterns.schema import UsagePattern, Workload

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second. `profile` is (share of the month, rate): what the expected cost is integrated over."""

    low: float
    expected: float
    peak: float
    profile: tuple[tuple[float, float], ...]


def window_hours(usage: UsagePattern) -> int:
    """Hours from start to end, over midnight where the end is not later; equal hours mean the whole day."""
    return (usage.end_hour - usage.start_hour) % 24 or 24


def window_share(usage: UsagePattern) -> float:
    """Share of the week inside the hours."""
    return window_hours(usage) / 24 * (5 / 7 if usage.weekdays_only else 1)


def request_rates(workload: Workload, usage: UsagePattern) -> Rates:
    """Expected is the daily mean, peak the mean times its ratio, low the off-peak rate.

    Office hours: the mean is split so that the rate outside is lower by the stated reduction. Overnight: all of a
    day's work comes
    within the hours. Steady: the low rate mirrors the peak, mean divided by the ratio (an assumption: a load that
    swings up by a
    factor swings down by it).
    """
    mean = workload.requests_per_day / SECONDS_PER_DAY
    peak = mean * workload.peak_to_mean
    share = window_share(usage)
    if usage.kind == "steady":
        return Rates(mean / workload.peak_to_mean, mean, peak, ((1.0, mean),))
    if usage.kind == "overnight":
        return Rates(0.0, mean, peak, ((share, mean / share), (1 - share, 0.0)))
    outside = 1 - usage.off_peak_reduction_percent / 100
    inside_rate = mean / (share + outside * (1 - share))
    return Rates(outside * inside_rate, mean, peak, ((share, inside_rate), (1 - share, outside * inside_rate)))
