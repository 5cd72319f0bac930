"""On-demand and spot: which mix, and what n instances cost an hour in it. Counts are instances here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llm_fleet.catalog.types import Price
from llm_fleet.guide import calculate_optimal_instance_mix
from llm_fleet.patterns.schema import Pool
from llm_fleet.patterns.words import PurchaseKind


@dataclass(frozen=True, slots=True)
class Mix:
    """A purchase mix. The base is `base_instances`, or `base_share` of the steady capacity where that is given."""

    kind: PurchaseKind
    base_instances: int
    base_share: float | None
    spot_percent: int
    source: str

    def base(self, steady_instances: float) -> int:
        """On-demand base in instances, for a pool whose steady capacity is known."""
        return self.base_instances if self.base_share is None else round(self.base_share * steady_instances)

    def on_demand(self, count: int, base: int) -> int:
        """On-demand among `count`: the base, then the on-demand share of the rest, fractions rounded up (as EC2
        Auto Scaling does).
        """
        above = max(0, count - base)
        return min(count, base) + math.ceil(above * (100 - self.spot_percent) / 100)


def settle_mix(pool: Pool, override: PurchaseKind | None) -> Mix:
    """The mix by override, else as the pattern writes it, else by the article's rule for the usage."""
    if override == "on-demand":
        return Mix("on-demand", pool.scaling.min_instances, None, 0, "override")
    if override == "spot":
        return Mix("spot", 0, None, 100, "override")
    if pool.purchase:
        return Mix("mixed", pool.purchase.on_demand_base_instances, None, pool.purchase.spot_percent, "pattern")
    return _mix_by_usage(pool)


def _mix_by_usage(pool: Pool) -> Mix:
    pattern = "batch" if pool.usage.kind == "overnight" else "steady"
    variation = pool.workload.peak_to_mean
    mix = calculate_optimal_instance_mix({"pattern": pattern, "peak_variation": variation})
    on_demand, spot = mix["on_demand"], mix["spot"]
    on_demand_percent = round(100 * on_demand / (on_demand + spot))
    source = f"calculate_optimal_instance_mix(pattern={pattern}, peak_variation={variation:g})"
    return Mix("mixed", 0, mix["reserved"] / 100, 100 - on_demand_percent, source)


def usd_per_hour(mix: Mix, count: int, base: int, price: Price) -> float:
    """What `count` instances cost an hour. Without a known spot price, spot counts at the on-demand price."""
    on_demand_price = price.on_demand_usd_per_hour or 0.0
    spot_price = on_demand_price if price.spot_usd_per_hour is None else price.spot_usd_per_hour
    on_demand = mix.on_demand(count, base)
    return on_demand * on_demand_price + (count - on_demand) * spot_price
