"""A FleetPlan for a reader at a terminal: what was chosen, why, what it costs, what to mind."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from llm_fleet.planning.plan import ArticleType, Choice, FleetPlan, GuideChoice, Lever, LoadCost, PoolPlan, Rejected
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
        *(f"  {line}" for line in _sureness(pool)),
        *(f"  {line}" for line in _splits(pool.choices)),
        f"  {_memory(pool.choices[0])}",
        *(f"  {line}" for line in _boot(pool.choices[0])),
        "",
        "  Levers, none taken: what each would save a month and what it costs in quality",
        table(_LEVER_HEADER, [_lever_row(lever) for lever in pool.levers], "    "),
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
        _range(choice.output_tokens_per_s, choice.low_output_tokens_per_s, choice.high_output_tokens_per_s),
        f"{choice.ttft_ms:,.0f} (-{choice.high_ttft_ms:,.0f})",
        _range(choice.tpot_ms, choice.low_tpot_ms, choice.high_tpot_ms),
        f"{choice.on_demand_usd_per_hour:.4g}",
        spot,
        f"{choice.usd_per_million_output_tokens:.2f}",
        f"{choice.usd_per_month:,.0f}",
    )


def _range(value: float, low: float, high: float) -> str:
    return f"{value:,.0f} ({low:,.0f}-{high:,.0f})"


def _sureness(pool: PoolPlan) -> Iterator[str]:
    """What the predictions lean on, and what it would save to trust them more."""
    best, bold = pool.choices[0], pool.boldness
    near = ", ".join(
        f"{known.points} of {known.accelerator} {known.engine_class} {known.weight_format} {known.params_billion:g}B"
        for known in best.evidence.nearest
    )
    inherits = "" if best.evidence.accelerator_points else f"; none of {best.accelerator}: it inherits from its kin"
    yield (
        f"Evidence for {best.instance_type}: {best.evidence.measured_points} measured points alike, "
        f"interval x/÷ {best.evidence.interval_factor:.2f}; nearest: {near}{inherits}"
    )
    if pool.sizing == "bold":
        yield "Sized by the typical prediction (sizing: bold): about half of like cases are slower"
        return
    saves = "saves nothing" if bold.saves_usd_per_month < 1 else f"saves {bold.saves_usd_per_month:,.0f}"
    yield (
        f"Sized for the low end of the interval; by the typical prediction: {bold.instances_at_expected_load} x "
        f"{bold.instance_type}, {bold.usd_per_month:,.0f} USD/month, {saves}"
    )


def _splits(choices: Sequence[Choice]) -> Iterator[str]:
    """Of types with several devices: what each split would serve. Types that are alike stand in one line."""
    alike: dict[tuple[object, ...], list[Choice]] = {}
    for choice in choices:
        if len(choice.splits) > 1:
            alike.setdefault((choice.accelerator, choice.accelerator_count, choice.splits), []).append(choice)
    for same in alike.values():
        ways = "; ".join(
            f"{split.replicas} x TP{split.tensor_parallel} {split.note or f'{split.requests_per_s:.2f}'}"
            for split in same[0].splits
        )
        yield f"Splits of {', '.join(choice.instance_type for choice in same)}, requests/s: {ways}"


def _memory(best: Choice) -> str:
    """What a device's memory goes to, and what the cache then holds."""
    memory = best.memory
    return (
        f"Memory of one device of {best.instance_type}, GiB: weights {memory.weights_gib:.2f}, activations "
        f"{memory.activations_gib:.2f}, graphs {memory.graphs_gib:.2f}, buffers {memory.non_torch_gib:.2f}, unused "
        f"{memory.utilisation_gib:.2f}; the cache holds {best.full_length_sequences} sequences of "
        f"{best.max_model_len_tokens} tokens, or one of {best.largest_context_tokens:,}"
    )


def _boot(best: Choice) -> Iterator[str]:
    """How long the best choice takes to its first token, and what is compiled."""
    boot, compiled = best.boot, best.compiled
    monthly = f"; the pool's hours ask for {boot.usd_per_month:,.0f} USD of boots a month" if boot.usd_per_month else ""
    yield (
        f"Boot of {best.instance_type}: {boot.later_s / 60:.0f} min to the first token ({boot.later_low_s / 60:.0f}-"
        f"{boot.later_high_s / 60:.0f}), {boot.first_s / 60:.0f} while the fleet's cache is empty{monthly}"
    )
    if compiled:
        yield (
            f"Compiled once: {compiled.graphs} graphs in about {compiled.compile_s / 60:.0f} min "
            f"({compiled.compile_usd:.2f} USD), prompts padded to {_buckets(compiled.prompt_buckets_tokens)} tokens, "
            f"batch {_buckets(compiled.batches)}; {100 * compiled.prompt_waste:.0f} % of a mean prompt and "
            f"{100 * compiled.cache_waste:.0f} % of the cache read is padding"
        )


def _buckets(sizes: Sequence[int]) -> str:
    return "/".join(map(str, sizes))


_LEVER_HEADER = ("lever", "type", "USD/month", "saves", "quality kept", "take it with")


def _lever_row(lever: Lever) -> tuple[str, ...]:
    usd = "-" if lever.usd_per_month is None else f"{lever.usd_per_month:,.0f}"
    saves = "-" if lever.saves_usd_per_month is None else f"{lever.saves_usd_per_month:,.0f}"
    retained = lever.quality_retained_percent
    quality = lever.quality_source if retained is None else f"{retained:g} % ({lever.quality_source})"
    how = f"{lever.how} ({lever.note})" if lever.note else lever.how
    return (lever.change, lever.instance_type or "-", usd, saves, quality, how)


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
