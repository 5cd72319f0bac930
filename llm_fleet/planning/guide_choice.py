"""What the article's rules would take for a pool, and the difference in money for the same load and purchase mix."""

from __future__ import annotations

from collections.abc import Mapping

from llm_fleet.guide import choose_aws_gpu_instance, estimate_gpu_memory_requirements, select_instance_for_model
from llm_fleet.planning.choosing import Ranked
from llm_fleet.planning.criteria import Assessment
from llm_fleet.planning.plan import Alternative, ArticleType, Guide, GuideChoice
from llm_fleet.planning.request import PoolRequest

GUIDE_PRECISION = {"bf16": "fp16", "fp8": "int8", "mxfp4": "int4", "nvfp4": "int4"}
"""The article's rule knows fp32, fp16, int8 and int4; other formats take the one of equal width."""


def guide_choice(request: PoolRequest, by_name: Mapping[str, Assessment], plan_usd_per_month: float) -> Guide:
    """The type by `select_instance_for_model`, with `choose_aws_gpu_instance` beside it."""
    asked, billions = request.pool.guide, request.card.params_total_billion
    precision = GUIDE_PRECISION.get(request.precision, request.precision)
    memory_gb = estimate_gpu_memory_requirements(billions, precision)
    selected = select_instance_for_model(memory_gb, asked.performance_target, asked.budget_constraint)
    rule = f"select_instance_for_model({memory_gb:.1f}, {asked.performance_target}, {asked.budget_constraint})"
    chosen = choose_aws_gpu_instance(
        {
            "model_params_billion": billions,
            "budget_level": asked.budget_level,
            "max_latency_ms": asked.max_latency_ms,
            "requests_per_day": request.pool.workload.requests_per_day,
        }
    )
    beside = (
        f"choose_aws_gpu_instance({billions:g}B, {asked.budget_level}, {asked.max_latency_ms} ms, "
        f"{request.pool.workload.requests_per_day} requests/day)"
    )
    return Guide(
        **_money(selected, rule, by_name, plan_usd_per_month).model_dump(),
        beside=_money(chosen, beside, by_name, plan_usd_per_month),
    )


def _money(name: str, rule: str, by_name: Mapping[str, Assessment], plan_usd_per_month: float) -> GuideChoice:
    found = by_name.get(name)
    if found is None or found.usd_per_month is None:
        note = found.reasons[0].text if found and found.reasons else "not in the catalogue"
        return GuideChoice(instance_type=name, rule=rule, monthly_usd=None, difference=None, note=note)
    note = f"would not be chosen: {found.reasons[0].text}" if found.reasons else ""
    return GuideChoice(
        instance_type=name,
        rule=rule,
        monthly_usd=round(found.usd_per_month, 2),
        difference=round(found.usd_per_month - plan_usd_per_month, 2),
        note=note,
    )


def article_type(
    request: PoolRequest, by_name: Mapping[str, Assessment], ranked: tuple[Ranked, ...], chosen: frozenset[str]
) -> ArticleType | None:
    """The article's type for the pattern, and the cheapest type of every family that could serve instead, by cost."""
    name = request.article_instance_type
    if name is None:
        return None
    own = by_name[name]
    device = own.candidate.catalog.accelerators[own.candidate.instance_type.accelerator]
    serves = not own.reasons
    usd = own.usd_per_month
    alternatives: dict[str, Alternative] = {}
    for entry in ranked if usd is not None else ():
        family = entry.hardware.instance_type.family
        if family == own.candidate.instance_type.family or family in alternatives or usd is None:
            continue
        alternatives[family] = Alternative(
            instance_type=entry.name,
            usd_per_month=round(entry.usd_per_month, 2),
            saves_usd_per_month=round(usd - entry.usd_per_month, 2),
        )
    return ArticleType(
        instance_type=name,
        verdict="chosen" if name in chosen else "ranked" if serves else "rejected",
        usable_gib_per_device=device.memory_usable_gib,
        devices=own.candidate.instance_type.devices,
        usd_per_month=None if usd is None else round(usd, 2),
        alternatives=tuple(alternatives.values()),
    )
