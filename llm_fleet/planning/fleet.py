"""Puts the stages together: a pattern's name and overrides in, a FleetPlan out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from llm_fleet.catalog import Catalog, load_catalog
from llm_fleet.errors import InputError, Problem
from llm_fleet.models import ModelLibrary, load_models
from llm_fleet.patterns import Overrides, load_pattern, parse_overrides
from llm_fleet.patterns.load import LoadedPattern
from llm_fleet.patterns.words import ROLES, Role
from llm_fleet.planning import cautions, choosing
from llm_fleet.planning.choice import as_choice
from llm_fleet.planning.cost import HOURS_PER_MONTH, boots_usd_per_month, instances_for, mean_usd_per_hour
from llm_fleet.planning.criteria import Assessment, assess
from llm_fleet.planning.existing_vpc import existing_vpc_problems
from llm_fleet.planning.guide_choice import article_type, guide_choice
from llm_fleet.planning.levers import boldly, boldness, levers
from llm_fleet.planning.plan import (
    Cost,
    Deployment,
    EnginePlan,
    FleetPlan,
    Load,
    LoadCost,
    Marks,
    PoolPlan,
    Vendor,
)
from llm_fleet.planning.request import PoolRequest, settle_requests
from llm_fleet.planning.scaling import purchase_of, scaling_of

NEAREST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Judged:
    request: PoolRequest
    assessments: tuple[Assessment, ...]
    chosen: choosing.Chosen


def plan_fleet(pattern: str, overrides: Mapping[str, str] | None = None) -> FleetPlan:
    """The plan of a pattern, given by name or path, with overrides as key -> text.

    Raises:
        InputError: everything wrong in the pattern and the overrides, a required pool that no type can serve, or an
            existing VPC that cannot hold the plan.
    """
    settled = parse_overrides(overrides or {})
    loaded = load_pattern(pattern)
    catalog, models = load_catalog(), load_models()
    region, requests = settle_requests(loaded, settled, catalog, models)
    judged, dropped = _judge(requests, catalog)
    plan = _compose(loaded, settled, region, judged, dropped, catalog, models)
    if lacking := tuple(existing_vpc_problems(plan)):
        raise InputError(lacking)
    return plan


def _judge(requests: Sequence[PoolRequest], catalog: Catalog) -> tuple[list[_Judged], dict[Role, str]]:
    """Choices of every pool; optional pools without any are dropped, with the sentence that says why."""
    judged: list[_Judged] = []
    dropped: dict[Role, str] = {}
    problems: list[Problem] = []
    for request in requests:
        assessments = assess(request, catalog)
        chosen = choosing.choose(assessments)
        if chosen:
            judged.append(_Judged(request, assessments, chosen))
        elif request.pool.required:
            problems.append(_no_type(request, assessments, catalog))
        else:
            dropped[request.role] = f"no type can serve: {choosing.what_excludes(assessments)}"
    if problems:
        raise InputError(problems)
    return judged, dropped


def _no_type(request: PoolRequest, assessments: Sequence[Assessment], catalog: Catalog) -> Problem:
    """The error of a required pool that stays empty, with the types that came nearest, within the families asked
    for, and those that would serve if predictions were trusted without their interval.
    """
    where = f"pool {request.role} ({request.card.name}, {request.precision}, {request.region})"
    asked = [item for item in assessments if all(reason.criterion != "instance_families" for reason in item.reasons)]
    within = f" within instance_families {', '.join(request.families)}" if request.families else ""
    nearest = sorted(asked, key=lambda item: (len(item.reasons), item.name))[:NEAREST_SHOWN]
    shown = "; ".join(f"{item.name}: {item.reasons[0].text}" for item in nearest)
    bold = ", ".join(entry.name for entry in boldly(request, catalog)[:NEAREST_SHOWN])
    boldness_helps = f". By typical predictions (-c sizing=bold) these would: {bold}" if bold else ""
    message = f"no type can serve{within}: {choosing.what_excludes(asked)}. Nearest: {shown}{boldness_helps}"
    return Problem(where, message)


def _compose(
    loaded: LoadedPattern,
    overrides: Overrides,
    region: str,
    judged: Sequence[_Judged],
    dropped: Mapping[Role, str],
    catalog: Catalog,
    models: ModelLibrary,
) -> FleetPlan:
    pattern = loaded.pattern
    routes = _routes(pattern.fallback, {item.request.role for item in judged}, dropped)
    pools = tuple(_pool_plan(item, pattern.fallback.get(item.request.role, ()), catalog, models) for item in judged)
    gateway = pattern.deploy.gateway
    if overrides.image:
        gateway = gateway.model_copy(update={"image": overrides.image})
    warnings = [f"{role}: dropped, {reason}; its requests go to {routes[role]}." for role, reason in dropped.items()]
    warnings += _merged_by_sentence(judged, catalog)
    warnings.extend(cautions.deployment_cautions(pattern, gateway.image))
    required = next(pool for pool in pools if pool.required)
    return FleetPlan(
        pattern=pattern.name,
        description=pattern.description,
        region=region,
        catalog_date=catalog.date.isoformat(),
        overrides=overrides.as_text(),
        guide=required.guide,
        pools=pools,
        routes=routes,
        cost=_total(pools),
        cost_scope="instances only",
        deployment=Deployment(
            network=pattern.deploy.network,
            gateway=gateway,
            alarm_email=pattern.deploy.alarm_email,
            budget_usd_per_month=pattern.deploy.budget_usd_per_month,
            zone_ids=catalog.region_zones(region),
        ),
        warnings=tuple(warnings),
    )


def _merged_by_sentence(judged: Sequence[_Judged], catalog: Catalog) -> Iterator[str]:
    """The pools' cautions, each sentence once, led by the roles that it is about."""
    roles_of: dict[str, list[str]] = {}
    for item in judged:
        for sentence in cautions.pool_cautions(item.request, item.chosen, item.assessments, catalog):
            roles_of.setdefault(sentence, []).append(item.request.role)
    return (f"{', '.join(roles)}: {sentence}" for sentence, roles in roles_of.items())


def _routes(
    fallback: Mapping[Role, Sequence[Role]], present: set[Role], dropped: Mapping[Role, str]
) -> dict[Role, Role]:
    """Role asked for -> pool that takes it.

    Raises:
        InputError: a dropped role whose chain leads nowhere.
    """
    routes: dict[Role, Role] = {}
    for role in ROLES:
        chain: tuple[Role, ...] = (role, *fallback.get(role, ()))
        taker: Role | None = next((other for other in chain if other in present), None)
        if taker is None:
            reason = dropped.get(role, "it has no pool")
            raise InputError(
                Problem(f"pool {role}", f"{reason}, and its fallback leads to no pool", "", "a chain in fallback")
            )
        routes[role] = taker
    return routes


def _pool_plan(item: _Judged, fallback: Sequence[Role], catalog: Catalog, models: ModelLibrary) -> PoolPlan:
    request, chosen = item.request, item.chosen
    best = chosen.choices[0]
    weights = choosing.capacity_weights(chosen.choices)
    by_name = {assessment.name: assessment for assessment in item.assessments}
    engine, pool = best.hardware.engine, request.pool
    architecture = best.hardware.instance_type.architecture
    names = frozenset(entry.name for entry in chosen.choices)
    return PoolPlan(
        role=request.role,
        required=pool.required,
        fallback=tuple(fallback),
        model=request.card.name,
        served_model_name=request.served_model_name,
        precision=request.precision,
        usage=pool.usage.kind,
        load=Load(
            input_tokens=pool.workload.input_tokens,
            output_tokens=pool.workload.output_tokens,
            requests_per_day=pool.workload.requests_per_day,
            low_requests_per_s=round(request.rates.low, 6),
            expected_requests_per_s=round(request.rates.expected, 6),
            peak_requests_per_s=round(request.rates.peak, 6),
        ),
        marks=Marks(ttft_ms=pool.marks.ttft_ms, tpot_ms=pool.marks.tpot_ms),
        vendor=cast(Vendor, best.hardware.accelerator.vendor),
        architecture=architecture,
        engine=EnginePlan(
            name=engine.name,
            version=engine.version,
            image=engine.image,
            ami_ssm_parameter=engine.ami_parameter[architecture],
            ami_id=pool.ami_id,
            static_shapes=engine.static_shapes,
            status=engine.status,
        ),
        weights=request.weights,
        zone_ids=chosen.zone_ids,
        choices=tuple(as_choice(entry, weight) for entry, weight in zip(chosen.choices, weights, strict=True)),
        rejected=chosen.rejected,
        headline=choosing.headline(chosen, item.assessments),
        purchase=purchase_of(request, best, weights[0]),
        scaling=scaling_of(request, chosen.choices, weights),
        cost=_pool_cost(request, best),
        sizing="cautious" if request.demand.cautious else "bold",
        boldness=boldness(request, catalog, best.usd_per_month),
        levers=levers(request, catalog, models, best.usd_per_month),
        guide=guide_choice(request, by_name, best.usd_per_month),
        article_type=article_type(request, by_name, choosing.rank(item.assessments), names),
    )


def _pool_cost(request: PoolRequest, best: choosing.Ranked) -> Cost:
    """Money at the three loads, the pool made of its best choice; the boots of its hours count at expected load."""
    rates = request.rates

    boots = boots_usd_per_month(request, best.hardware, best.serving, best.price)

    def at(mean_rate: float, profile: tuple[tuple[float, float], ...]) -> LoadCost:
        usd = HOURS_PER_MONTH * mean_usd_per_hour(request, best.serving, best.price, profile)
        usd += boots if len(profile) > 1 else 0.0
        instances = sum(share * instances_for(request, best.serving, rate) for share, rate in profile)
        tokens = mean_rate * request.demand.output_tokens * HOURS_PER_MONTH * 3600
        return _load_cost(instances, usd, tokens)

    return Cost(
        low=at(rates.low, ((1.0, rates.low),)),
        expected=at(rates.expected, rates.profile),
        peak=at(rates.peak, ((1.0, rates.peak),)),
    )


def _load_cost(instances: float, usd: float, tokens: float) -> LoadCost:
    return LoadCost(
        instances=round(instances, 2),
        usd_per_month=round(usd, 2),
        usd_per_million_output_tokens=round(usd / tokens * 1e6, 4) if tokens else None,
    )


def _total(pools: Sequence[PoolPlan]) -> Cost:
    """The pools' money added up; per million tokens over all their tokens."""

    def total(costs: Sequence[LoadCost], rates: Sequence[float]) -> LoadCost:
        seconds = HOURS_PER_MONTH * 3600
        tokens = sum(rate * pool.load.output_tokens * seconds for rate, pool in zip(rates, pools, strict=True))
        return _load_cost(sum(cost.instances for cost in costs), sum(cost.usd_per_month for cost in costs), tokens)

    return Cost(
        low=total([p.cost.low for p in pools], [p.load.low_requests_per_s for p in pools]),
        expected=total([p.cost.expected for p in pools], [p.load.expected_requests_per_s for p in pools]),
        peak=total([p.cost.peak for p in pools], [p.load.peak_requests_per_s for p in pools]),
    )
