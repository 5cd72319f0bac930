"""What every exchange works with, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_fleet.gateway.placing import Placing
from llm_fleet.gateway.wire.engines import Engines
from llm_fleet.json_log import JsonLog


@dataclass(frozen=True)
class ExchangeLimits:
    """Time-outs of an exchange, in seconds."""

    wait_s: float = 30.0
    """For a place, while the pool's engines are all taken."""
    flex_wait_s: float = 600.0
    """For a place, by requests that asked to be served when it suits; also while an empty pool is woken."""
    head_s: float = 600.0
    """To the first byte of an answer: a long completion that is not streamed takes all that time."""
    silence_s: float = 120.0
    """Between two pieces of an answer."""
    comment_s: float = 15.0
    """Between signs of life in a stream that is silent."""


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
