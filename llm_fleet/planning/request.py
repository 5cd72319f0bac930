"""What each pool must serve, settled: model, precision, weights, limits. Checks the user's words against catalogue
and models.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.catalog.types import Catalog
from llm_fleet.documents import Document
from llm_fleet.errors import InputError, Problem, unknown_choice
from llm_fleet.models import ModelLibrary, ResolvedModel
from llm_fleet.models.card import PRECISIONS, ModelCard
from llm_fleet.patterns.load import LoadedPattern
from llm_fleet.patterns.overrides import Overrides
from llm_fleet.patterns.schema import Pattern, Pool
from llm_fleet.patterns.words import Role
from llm_fleet.planning.load import Rates, request_rates
from llm_fleet.planning.plan import WeightsPlan
from llm_fleet.planning.purchase import Mix, settle_mix
from llm_fleet.sizing.serving import Demand

SIXTEEN_BIT = ("fp16", "bf16")
ANYWHERE = ("fp16", "bf16", "fp8", "int8", "int4")
"""What a model published in 16 bit may be served in; the rest needs a checkpoint that the library knows."""


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """One pool with nothing left to look up but instance types."""

    role: Role
    pool: Pool
    card: ModelCard
    served_model_name: str
    precision: str
    weights: WeightsPlan
    region: str
    families: tuple[str, ...] | None
    article_instance_type: str | None
    demand: Demand
    rates: Rates
    mix: Mix
    notes: tuple[str, ...]
    """Sentences for the plan's warnings."""


def settle_requests(
    loaded: LoadedPattern, overrides: Overrides, catalog: Catalog, models: ModelLibrary
) -> tuple[str, tuple[PoolRequest, ...]]:
    """The region and one request per pool, in the pattern's order.

    Raises:
        InputError: every unknown name and contradiction at once.
    """
    pattern, document = loaded.pattern, loaded.document
    problems = _unknown_places(pattern, document, overrides, catalog)
    region = overrides.region or pattern.region
    requests: list[PoolRequest] = []
    for role, pool in pattern.pools.items():
        try:
            requests.append(_settle(pattern, document, role, pool, overrides, region, models))
        except InputError as error:
            problems.extend(problem for problem in error.problems if problem not in problems)
    if problems:
        raise InputError(problems)
    return region, tuple(requests)


def _unknown_places(pattern: Pattern, document: Document, overrides: Overrides, catalog: Catalog) -> list[Problem]:
    problems: list[Problem] = []
    region, where = (
        (overrides.region, f"-c region={overrides.region}")
        if overrides.region
        else (pattern.region, document.where("region"))
    )
    if region not in catalog.regions:
        problems.append(unknown_choice(where, "region", region, catalog.regions))
    for family in overrides.instance_families or ():
        if family not in catalog.families:
            option = f"-c instance_families={','.join(overrides.instance_families or ())}"
            problems.append(unknown_choice(option, "instance family", family, catalog.families))
    for role, pool in pattern.pools.items():
        keys = ("pools", role, "constraints")
        for family in pool.constraints.instance_families or ():
            if family not in catalog.families:
                problems.append(
                    unknown_choice(
                        document.where(*keys, "instance_families"), "instance family", family, catalog.families
                    )
                )
        zones = catalog.region_zones(region)
        for zone in pool.constraints.zone_ids or ():
            if zones and zone not in zones:
                problems.append(unknown_choice(document.where(*keys, "zone_ids"), f"zone of {region}", zone, zones))
    article = pattern.article_instance_type
    if article and article not in catalog.instance_types:
        where = document.where("article_instance_type")
        problems.append(unknown_choice(where, "instance type", article, catalog.instance_types))
    return problems


def _settle(
    pattern: Pattern,
    document: Document,
    role: Role,
    pool: Pool,
    overrides: Overrides,
    region: str,
    models: ModelLibrary,
) -> PoolRequest:
    pool = _with_max_instances(pool, overrides, role)
    model, where = _model_name(pattern, document, role, pool, overrides)
    resolved = models.resolve(model, where)
    precision, notes = _settle_precision(pattern, document, role, pool, overrides, resolved)
    weights = _settle_weights(pool, resolved, precision)
    length = min(pool.max_model_len_tokens, resolved.card.max_context_tokens)
    asked = pool.workload.input_tokens + pool.workload.output_tokens
    if asked > length:
        place = document.where("pools", role, "workload")
        raise InputError(
            Problem(
                place,
                f"one request is longer than the context of {resolved.card.name}",
                f"{asked} tokens",
                f"up to {length}",
            )
        )
    if length < pool.max_model_len_tokens:
        notes += (f"{resolved.card.name} holds {length} tokens, not the {pool.max_model_len_tokens} of the pattern.",)
    demand = Demand(
        input_tokens=pool.workload.input_tokens,
        output_tokens=pool.workload.output_tokens,
        max_model_len_tokens=length,
        ttft_mark_ms=pool.marks.ttft_ms,
        tpot_mark_ms=pool.marks.tpot_ms,
        kv_precision=overrides.kv_precision or pool.kv_precision,
        cautious=(overrides.sizing or pattern.sizing) == "cautious",
    )
    return PoolRequest(
        role=role,
        pool=pool,
        card=resolved.card,
        served_model_name=resolved.repository or resolved.card.name,
        precision=precision,
        weights=weights,
        region=region,
        families=overrides.instance_families or pool.constraints.instance_families,
        article_instance_type=pattern.article_instance_type,
        demand=demand,
        rates=request_rates(pool.workload, pool.usage),
        mix=settle_mix(pool, overrides.purchase),
        notes=notes,
    )


def _with_max_instances(pool: Pool, overrides: Overrides, role: Role) -> Pool:
    limit = overrides.max_instances
    if limit is None:
        return pool
    base = pool.purchase.on_demand_base_instances if pool.purchase else 0
    least = max(pool.scaling.min_instances, base, 1)
    if limit < least:
        raise InputError(
            Problem(
                f"-c max_instances={limit}", f"is below what pool {role} always keeps", str(limit), f"{least} or more"
            )
        )
    return pool.model_copy(update={"scaling": pool.scaling.model_copy(update={"max_instances": limit})})


def _model_name(pattern: Pattern, document: Document, role: Role, pool: Pool, overrides: Overrides) -> tuple[str, str]:
    if overrides.model:
        return overrides.model, f"-c model={overrides.model}"
    if pool.model:
        return pool.model, document.where("pools", role, "model")
    return pattern.model, document.where("model")


def allowed_precisions(card: ModelCard) -> tuple[str, ...]:
    """Formats that the model can be served in: all common ones for a 16-bit model, else its own and known
    checkpoints.
    """
    known = {card.native_precision, *card.checkpoints}
    if card.native_precision in (*SIXTEEN_BIT, "fp32"):
        known |= set(ANYWHERE)
    return tuple(precision for precision in PRECISIONS if precision in known)


def _settle_precision(
    pattern: Pattern, document: Document, role: Role, pool: Pool, overrides: Overrides, resolved: ResolvedModel
) -> tuple[str, tuple[str, ...]]:
    """The precision, and a note where it is not the one that was written."""
    card = resolved.card
    allowed = allowed_precisions(card)
    if overrides.precision:
        where, asked = f"-c precision={overrides.precision}", overrides.precision
    elif pool.precision:
        where, asked = document.where("pools", role, "precision"), pool.precision
    else:
        where, asked = document.where("precision"), pattern.precision
    if asked not in PRECISIONS:
        raise InputError(unknown_choice(where, "precision", asked, PRECISIONS))
    if overrides.model and not overrides.precision:
        return _precision_of_other_model(role, asked, resolved)
    if resolved.precision and resolved.precision != asked:
        message = f"contradicts the model {resolved.repository}, whose weights are {resolved.precision}"
        raise InputError(Problem(where, message, asked, resolved.precision))
    if asked not in allowed:
        raise InputError(Problem(where, f"{card.name} is not served in {asked}", asked, ", ".join(allowed)))
    return asked, ()


def _precision_of_other_model(role: Role, asked: str, resolved: ResolvedModel) -> tuple[str, tuple[str, ...]]:
    """The pattern's precision was meant for the pattern's model: another model keeps it where it has it, else uses
    its own.
    """
    card = resolved.card
    if resolved.precision:
        return resolved.precision, ()
    if asked in SIXTEEN_BIT and card.native_precision in SIXTEEN_BIT:
        return card.native_precision, ()
    if asked in card.checkpoints or (asked == "fp8" and card.native_precision in SIXTEEN_BIT):
        return asked, ()
    note = (
        f"no {asked} checkpoint of {card.name} is known, so its own {card.native_precision} is planned; "
        f"-c precision={asked} plans it all the same."
    )
    return card.native_precision, (note,)


def _settle_weights(pool: Pool, resolved: ResolvedModel, precision: str) -> WeightsPlan:
    card, written = resolved.card, pool.weights
    checkpoint = card.checkpoints.get(precision)
    sixteen = precision in SIXTEEN_BIT and card.native_precision in SIXTEEN_BIT
    if written.repository:
        repository, form = written.repository, precision
    elif sixteen or precision in (card.native_precision, resolved.precision):
        repository, form = resolved.repository or None, checkpoint.format if checkpoint else "safetensors16"
    elif checkpoint:
        repository, form = checkpoint.repository, checkpoint.format
    elif precision == "fp8" and card.native_precision in SIXTEEN_BIT:
        repository, form = resolved.repository or None, "fp8-online"
    else:
        repository, form = None, precision
    return WeightsPlan(
        repository=repository,
        revision=written.revision,
        format=form,
        gated=card.gated is True,
        token_secret_name=written.token_secret_name if card.gated is True else None,
    )
