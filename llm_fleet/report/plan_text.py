"""A FleetPlan for a reader at a terminal: what was chosen, why, what it costs, what to mind."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from llm_fleet.planning.plan import ArticleType, Choice, FleetPlan, GuideChoice, LoadCost, PoolPlan, Rejected
from llm_fleet.report.table import table

REASONS_SHOWN = 2
NEXT_SHOWN = 6


def plan_text(plan: FleetPlan, every_type: bool = False) -> str:
    """The whole plan as text. `every_type` lists each rejected type; otherwise those that can serve and the
    nearest misses.
    """
    parts = [_heading(plan), *(_pool(pool, every_type) for pool in plan.pools), _money(plan)]
    if plan.warnings:
        parts.append("Mind\n" + "\n".join(f"  - {warning}" for warning in plan.warnings))
    return "\n\n".join(parts) + "\n"


def _heading(plan: FleetPlan) -> str:
    lines = [
        f"{plan.pattern} in {plan.region} (catalogue of {plan.catalog_date}, plan {plan.fingerprint()[:12]})",
        plan.description,
    ]
    if plan.overrides:
        lines.append("Overrides: " + ", ".join(f"{key}={text}" for key, text in plan.overrides.items()))
    moved = [f"{role} -> {taker}" for role, taker in plan.routes.items() if role != taker]
    if moved:
        lines.append("Routes: " + ", ".join(moved))
    return "\n".join(lines)


def _pool(pool: PoolPlan, every_type: bool) -> str:
    load, marks = pool.load, pool.marks
    lines = [
        f"Pool {pool.role}: {pool.served_model_name}, {pool.precision}, {pool.engine.name} "
        f"{pool.engine.version}, {pool.usage}",
        f"  Load {load.low_requests_per_s:.2f} / {load.expected_requests_per_s:.2f} / "
        f"{load.peak_requests_per_s:.2f} requests/s "
        f"(low / expected / peak), {load.input_tokens} tokens in, {load.output_tokens} out; "
        f"marks: first token {marks.ttft_ms:g} ms, each further {marks.tpot_ms:g} ms",
        f"  {pool.headline}",
        "",
        table(_CHOICE_HEADER, [_choice_row(choice) for choice in pool.choices]),
        "",
        f"  {_purchase(pool)}",
        f"  {_scaling(pool)}",
        *(f"  {schedule}" for schedule in _schedules(pool)),
        f"  {_guide(pool.guide)}",
        f"  {_guide(pool.guide.beside)}",
    ]
    if pool.article_type:
        lines.extend(f"  {line}" for line in _article(pool.article_type))
    lines += ["", "  Not chosen", table(("type", "USD/month", "why"), list(_rejected_rows(pool, every_type)), "    ")]
    if not every_type:
        lines.append("    (--all lists every type)")
    return "\n".join(lines)


_CHOICE_HEADER = (
    "type",
    "accelerators",
    "weight",
    "split",
    "GiB/device",
    "tokens/s",
    "first ms",
    "each ms",
    "USD/h",
    "spot",
    "USD/Mtok",
    "USD/month",
)


def _choice_row(choice: Choice) -> tuple[str, ...]:
    spot = "-" if choice.spot_usd_per_hour is None else f"{choice.spot_usd_per_hour:.3f}"
    used = choice.memory.weights_gib + choice.memory.reserve_gib
    return (
        choice.instance_type,
        f"{choice.accelerator_count:g} x {choice.accelerator}",
        str(choice.capacity_weight),
        f"{choice.replicas} x TP{choice.tensor_parallel}",
        f"{used:.1f}+{choice.memory.kv_cache_gib:.1f} of {choice.memory.usable_gib:.1f}",
        f"{choice.output_tokens_per_s:,.0f}",
        f"{choice.ttft_ms:.0f}",
        f"{choice.tpot_ms:.1f}",
        f"{choice.on_demand_usd_per_hour:.4g}",
        spot,
        f"{choice.usd_per_million_output_tokens:.2f}",
        f"{choice.usd_per_month:,.0f}",
    )


def _purchase(pool: PoolPlan) -> str:
    buy = pool.purchase
    return (
        f"Purchase: base {buy.on_demand_base_instances} on-demand ({buy.on_demand_base} units), "
        f"{buy.spot_percent} % spot above it "
        f"({buy.spot_percent_at_max:g} % at the largest size), by {buy.source}"
    )


def _scaling(pool: PoolPlan) -> str:
    rules = pool.scaling
    steps = ", ".join(f"+{step.add_units} above {step.above_backlog_per_unit}" for step in rules.steps_out)
    inward = rules.step_in
    return (
        f"Scaling: {rules.min_instances} to {rules.max_instances} instances ({rules.min_units} to "
        f"{rules.max_units} units), backlog per unit "
        f"{rules.target_backlog_per_unit}, {steps}; -{inward.remove_units} below "
        f"{inward.below_backlog_per_unit} for {inward.minutes} min "
        f"with first token under {inward.ttft_mark_ms:g} ms"
    )


def _schedules(pool: PoolPlan) -> Iterator[str]:
    for schedule in pool.scaling.schedules:
        yield f"Schedule {schedule.name}: minimum {schedule.min_units} units at {schedule.cron} {schedule.time_zone}"


def _guide(choice: GuideChoice) -> str:
    said = f"The article's {choice.rule} takes {choice.instance_type}"
    if choice.monthly_usd is None or choice.difference is None:
        return f"{said}: cannot serve this ({choice.note})"
    more = "more" if choice.difference >= 0 else "less"
    note = f"; {choice.note}" if choice.note else ""
    return f"{said}: {choice.monthly_usd:,.0f} USD/month, {abs(choice.difference):,.0f} {more} than the plan{note}"


def _article(article: ArticleType) -> Iterator[str]:
    usable = article.usable_gib_per_device
    memory = "memory unknown" if usable is None else f"{article.devices} x {usable:g} GiB usable"
    cost = "no cost" if article.usd_per_month is None else f"{article.usd_per_month:,.0f} USD/month"
    yield f"The article's type for this pattern, {article.instance_type} ({memory}): {article.verdict}, {cost}"
    others = [
        f"{other.instance_type} {'saves' if other.saves_usd_per_month >= 0 else 'costs'} "
        f"{abs(other.saves_usd_per_month):,.0f}{'' if other.saves_usd_per_month >= 0 else ' more'}"
        for other in article.alternatives
    ]
    if others:
        yield from textwrap.wrap("Against it, a month: " + "; ".join(others), 116, subsequent_indent="  ")


def _rejected_rows(pool: PoolPlan, every_type: bool) -> Iterator[tuple[str, ...]]:
    """One row a type; without `every_type` the next few that can serve, then those that miss by one criterion, by
    reason.
    """
    if every_type:
        yield from (_rejected_row(item.instance_type, item) for item in pool.rejected)
        return
    able = [item for item in pool.rejected if item.rank is not None]
    yield from (_rejected_row(item.instance_type, item) for item in able[:NEXT_SHOWN])
    if len(able) > NEXT_SHOWN:
        yield (f"{len(able) - NEXT_SHOWN} more", "-", "can serve, at a higher cost")
    misses: dict[str, list[Rejected]] = {}
    for item in pool.rejected:
        if item.rank is None and len(item.reasons) == 1:
            misses.setdefault(item.reasons[0].text, []).append(item)
    for items in misses.values():
        first = items[0]
        yield _rejected_row(first.instance_type + (f" +{len(items) - 1}" if len(items) > 1 else ""), first)


def _rejected_row(name: str, item: Rejected) -> tuple[str, ...]:
    usd = "-" if item.usd_per_month is None else f"{item.usd_per_month:,.0f}"
    return (name, usd, "; ".join(reason.text for reason in item.reasons[:REASONS_SHOWN]))


def _money(plan: FleetPlan) -> str:
    rows = [
        (name, *_cost_row(cost))
        for name, cost in (("low", plan.cost.low), ("expected", plan.cost.expected), ("peak", plan.cost.peak))
    ]
    return f"Cost ({plan.cost_scope}, 730 h)\n" + table(("load", "instances", "USD/month", "USD/Mtok out"), rows)


def _cost_row(cost: LoadCost) -> tuple[str, ...]:
    per_million = "-" if cost.usd_per_million_output_tokens is None else f"{cost.usd_per_million_output_tokens:.2f}"
    return (f"{cost.instances:g}", f"{cost.usd_per_month:,.0f}", per_million)
