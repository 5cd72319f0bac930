"""What a device costs by the hour, to compare measured accelerators by cost per token."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from llm_fleet.catalog import load_catalog

REGION = "us-east-1"


@functools.cache
def device_usd_per_hour() -> Mapping[str, float]:
    """Lowest price of one device by accelerator: on-demand in us-east-1, else a capacity block anywhere."""
    catalog = load_catalog()
    listed: dict[str, float] = {}
    blocks: dict[str, float] = {}
    for (name, region), price in catalog.prices.items():
        kind = catalog.instance_types[name]
        if kind.device_fraction < 1:
            continue
        if region == REGION and price.on_demand_usd_per_hour:
            each = price.on_demand_usd_per_hour / kind.devices
            listed[kind.accelerator] = min(each, listed.get(kind.accelerator, each))
        if price.capacity_block_usd_per_hour:
            each = price.capacity_block_usd_per_hour / kind.devices
            blocks[kind.accelerator] = min(each, blocks.get(kind.accelerator, each))
    return {**blocks, **listed}
