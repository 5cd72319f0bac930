"""A ranked type in the plan's form: rounded as it is printed, with its interval, evidence, splits, boot and shapes."""

from __future__ import annotations

import math

from llm_fleet.planning.choosing import Ranked
from llm_fleet.planning.cost import Start, boots_usd_per_month, start_of
from llm_fleet.planning.plan import Boot, Choice, Compiled, Evidence, MeasuredClass, Memory, Split
from llm_fleet.sizing import boot
from llm_fleet.sizing.forecast import evidence_of
from llm_fleet.sizing.layout import DeviceMemory
from llm_fleet.sizing.memory import largest_context_tokens, sequences_that_fit
from llm_fleet.sizing.neuron_buckets import cache_waste, prompt_waste
from llm_fleet.sizing.serving import ServingPlan, slots_within_marks


def as_choice(entry: Ranked, weight: int) -> Choice:
    """The plan's form of a choice, rounded as it is printed."""
    serving, price, kind = entry.serving, entry.price, entry.hardware.instance_type
    start = start_of(entry.hardware, serving)
    demand = entry.assessment.candidate.request.demand
    return Choice(
        instance_type=kind.name,
        rank=entry.rank,
        accelerator=kind.accelerator,
        accelerator_count=kind.accelerator_count,
        architecture=kind.architecture,
        zone_ids=entry.zone_ids,
        capacity_weight=weight,
        tensor_parallel=serving.tensor_parallel,
        replicas=serving.replicas,
        precision="bf16" if entry.hardware.neuron else serving.precision,
        kv_precision=_kv_precision(entry),
        max_model_len_tokens=demand.max_model_len_tokens,
        max_num_seqs=slots_within_marks(serving, demand),
        max_num_batched_tokens=serving.max_num_batched_tokens,
        memory=_memory(serving.memory),
        largest_context_tokens=largest_context_tokens(serving.setup),
        full_length_sequences=sequences_that_fit(serving.setup, demand.max_model_len_tokens),
        splits=tuple(_split(split) for split in entry.assessment.candidate.splits),
        concurrency=serving.concurrency,
        output_tokens_per_s=round(serving.output_tokens_per_s, 1),
        low_output_tokens_per_s=round(serving.output_tokens_per_s / serving.width, 1),
        high_output_tokens_per_s=round(serving.output_tokens_per_s * serving.width, 1),
        requests_per_s=round(serving.requests_per_s, 4),
        low_requests_per_s=round(serving.requests_per_s / serving.width, 4),
        ttft_ms=round(serving.ttft_ms, 1),
        high_ttft_ms=round(serving.ttft_ms * serving.ttft_width, 1),
        ttft_unloaded_ms=round(serving.ttft_unloaded_ms, 1),
        tpot_ms=round(serving.tpot_ms, 2),
        low_tpot_ms=round(serving.tpot_ms / serving.width, 2),
        high_tpot_ms=round(serving.tpot_ms * serving.width, 2),
        evidence=_evidence(serving),
        boot=_boot(entry, start),
        compiled=_compiled(entry, start),
        on_demand_usd_per_hour=price.on_demand_usd_per_hour or 0.0,
        spot_usd_per_hour=price.spot_usd_per_hour,
        spot_kind=price.spot_kind,
        price_date=price.date.isoformat() if price.date else "unknown",
        instances_at_expected_load=entry.assessment.instances_expected,
        usd_per_month=round(entry.usd_per_month, 2),
        usd_per_million_output_tokens=round(entry.usd_per_million_output_tokens, 4),
    )


def _memory(room: DeviceMemory) -> Memory:
    """Rounded so that the parts never add up to more than the whole."""
    usable, weights, reserve = (round(gib, 3) for gib in (room.usable_gib, room.weights_gib, room.reserve_gib))
    return Memory(
        usable_gib=usable,
        weights_gib=weights,
        kv_cache_gib=math.floor((usable - weights - reserve) * 1000 - 1e-6) / 1000,
        reserve_gib=reserve,
        activations_gib=round(room.activations_gib, 3),
        graphs_gib=round(room.graphs_gib, 3),
        non_torch_gib=round(room.non_torch_gib, 3),
        utilisation_gib=round(room.utilisation_gib, 3),
    )


def _boot(entry: Ranked, start: Start) -> Boot:
    price = entry.price.on_demand_usd_per_hour or 0.0
    request = entry.assessment.candidate.request
    return Boot(
        first_s=round(start.first.total_s),
        later_s=round(start.later.total_s),
        later_low_s=round(start.later.low_s),
        later_high_s=round(start.later.high_s),
        later_stages_s={name.removesuffix("_s"): round(s, 1) for name, s in start.later.stages.by_name().items() if s},
        first_usd=round(boot.usd(start.first.total_s, price), 4),
        later_usd=round(boot.usd(start.later.total_s, price), 4),
        usd_per_month=round(boots_usd_per_month(request, entry.hardware, entry.serving, entry.price), 2),
    )


def _compiled(entry: Ranked, start: Start) -> Compiled | None:
    buckets, demand = start.buckets, entry.assessment.candidate.request.demand
    if buckets is None:
        return None
    compile_s = start.first.stages.compile_s
    read = (buckets, demand.input_tokens, demand.output_tokens, max(1, entry.serving.concurrency))
    return Compiled(
        prompt_buckets_tokens=buckets.context_tokens,
        cache_buckets_tokens=buckets.cache_tokens,
        batches=buckets.batches,
        graphs=buckets.graphs,
        compile_s=round(compile_s),
        compile_usd=round(boot.usd(compile_s, entry.price.on_demand_usd_per_hour or 0.0), 4),
        prompt_waste=round(prompt_waste(buckets, demand.input_tokens), 3),
        cache_waste=round(cache_waste(*read), 3),
    )


def _evidence(serving: ServingPlan) -> Evidence:
    found = evidence_of(serving.setup)
    return Evidence(
        interval_factor=round(serving.width, 3),
        ttft_interval_factor=round(serving.ttft_width, 3),
        measured_points=found.alike,
        accelerator_points=found.of_accelerator,
        nearest=tuple(
            MeasuredClass(
                accelerator=known.accelerator,
                engine_class=known.engine,
                weight_format=known.weight_format,
                params_billion=known.params_billion,
                points=known.points,
            )
            for known in found.nearest
        ),
    )


def _kv_precision(entry: Ranked) -> str:
    """How the cache is stored: 16 bit in the kind that the device computes in, unless the pattern asks for less."""
    candidate = entry.assessment.candidate
    if candidate.request.demand.kv_precision != "auto":
        return candidate.request.demand.kv_precision
    support = candidate.catalog.precision_support.get((candidate.instance_type.accelerator, "bf16"))
    no_bf16 = support is not None and support.how == "no"
    return "fp16" if no_bf16 or (entry.serving.precision == "fp16" and not entry.hardware.neuron) else "bf16"


def _split(serving: ServingPlan) -> Split:
    note = ""
    if not serving.fits:
        note = f"needs {serving.needed_gib:.1f} GiB of {serving.memory.usable_gib:.1f} on each device"
    elif not serving.requests_per_s:
        note = "one request alone misses a mark"
    return Split(
        tensor_parallel=serving.tensor_parallel,
        replicas=serving.replicas,
        requests_per_s=round(serving.requests_per_s, 4),
        note=note,
    )
