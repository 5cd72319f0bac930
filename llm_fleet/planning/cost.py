"""What a pool of one type costs: instances by rate, a month by its profile, and the boots that its hours ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llm_fleet.catalog.types import Price
from llm_fleet.planning.purchase import usd_per_hour
from llm_fleet.planning.request import PoolRequest
from llm_fleet.sizing.boot import Boot, Served, boot
from llm_fleet.sizing.neuron_buckets import Buckets, compiled_buckets
from llm_fleet.sizing.serving import Hardware, ServingPlan

HOURS_PER_MONTH = 730
DAYS_PER_MONTH = HOURS_PER_MONTH / 24


@dataclass(frozen=True, slots=True)
class Start:
    """How an instance of the type comes up: with an empty cache, and later."""

    first: Boot
    later: Boot
    buckets: Buckets | None
    """Shapes that are compiled; None on an engine that compiles none ahead."""


def start_of(hardware: Hardware, serving: ServingPlan) -> Start:
    """The boots of a type with its serving plan."""
    buckets = None
    if hardware.engine.static_shapes:
        limits = (serving.max_model_len_tokens, serving.max_num_seqs, serving.max_num_batched_tokens)
        buckets = compiled_buckets(hardware.engine, *limits)
    traits = serving.setup.traits
    served = Served(
        weight_bytes=traits.weight_bytes,
        layers=int(traits.layers),
        tensor_parallel=serving.tensor_parallel,
        replicas=serving.replicas,
        graphs=buckets.graphs if buckets else 0,
    )
    kind = hardware.instance_type
    return Start(boot(kind, served, first=True), boot(kind, served, first=False), buckets)


def instances_for(request: PoolRequest, serving: ServingPlan, requests_per_s: float) -> int:
    """Instances that serve the rate at the pool's target utilisation, no fewer than its minimum."""
    safe_rate = serving.sized_requests_per_s * request.pool.scaling.target_utilization
    return max(request.pool.scaling.min_instances, math.ceil(requests_per_s / safe_rate - 1e-9))


def mean_usd_per_hour(
    request: PoolRequest, serving: ServingPlan, price: Price, profile: tuple[tuple[float, float], ...]
) -> float:
    """USD an hour, averaged over (share of time, rate) pairs."""
    base = request.mix.base(instances_for(request, serving, request.rates.expected))
    return sum(
        share * usd_per_hour(request.mix, instances_for(request, serving, rate), base, price) for share, rate in profile
    )


def boots_usd_per_month(request: PoolRequest, hardware: Hardware, serving: ServingPlan, price: Price) -> float:
    """What the boots of a schedule cost: each working day the instances of the busy hours start anew, and are paid from
    their launch on. A steady pool has none that can be foreseen.
    """
    profile = request.rates.profile
    if len(profile) < 2:
        return 0.0
    base = request.mix.base(instances_for(request, serving, request.rates.expected))
    busy, quiet = (
        usd_per_hour(request.mix, instances_for(request, serving, rate), base, price) for _, rate in profile[:2]
    )
    days = DAYS_PER_MONTH * (5 / 7 if request.pool.usage.weekdays_only else 1)
    later_s = start_of(hardware, serving).later.total_s
    return days * later_s / 3600 * max(0.0, busy - quiet)


def usd_per_month(request: PoolRequest, hardware: Hardware, serving: ServingPlan, price: Price) -> float:
    """The month at expected load, with its boots."""
    running = HOURS_PER_MONTH * mean_usd_per_hour(request, serving, price, request.rates.profile)
    return running + boots_usd_per_month(request, hardware, serving, price)
