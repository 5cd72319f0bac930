"""What every exchange works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_fleet.gateway.placing import Placing
from llm_fleet.gateway.settings import ExchangeLimits
from llm_fleet.gateway.wire.engines import Engines
from llm_fleet.json_log import JsonLog


@dataclass(frozen=True)
class Relays:
    """What every exchange works with."""

    placing: Placing
    engines: Engines
    limits: ExchangeLimits
    usd_per_output_token: Mapping[str, float | None]
    """By pool."""
    log: JsonLog
    """Where it stands what engines did to requests that failed."""
