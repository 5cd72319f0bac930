"""FleetPlan: what will run, why, and what it costs. A frozen value; stacks translate it, reports print it,
snapshots pin it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_fleet.patterns.schema import Gateway, Network
from llm_fleet.patterns.words import PurchaseKind, Role, Sizing, Usage

Vendor = Literal["nvidia", "neuron"]
LeverKind = Literal["precision", "model", "context", "kv_precision", "together"]


class Value(BaseModel):
    """Base of every part of a plan: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reason(Value):
    """Why a type was not chosen, as data. `text` is rendered from the rest."""

    criterion: str
    needed: float | str
    available: float | str
    margin: float | None = Field(description="available minus needed in `unit`; negative where it falls short")
    unit: str
    text: str


class Rejected(Value):
    """A type that is not among the choices. `rank` is its place by cost where it could serve, else null."""

    instance_type: str
    rank: int | None
    usd_per_month: float | None
    reasons: tuple[Reason, ...]


class Memory(Value):
    """Of each device that a replica uses, in GiB. weights + kv_cache + reserve <= usable."""

    usable_gib: float
    weights_gib: float
    kv_cache_gib: float = Field(description="what is left for the cache after weights and reserve")
    reserve_gib: float = Field(description="everything else; the four below, with nothing left over")
    activations_gib: float = Field(description="of the largest step")
    graphs_gib: float = Field(description="captured CUDA graphs")
    non_torch_gib: float = Field(description="context and communication buffers; on Neuron the runtime")
    utilisation_gib: float = Field(description="what the engine's version leaves unused")


class MeasuredClass(Value):
    """Measured points of one kind: what a prediction leans on."""

    accelerator: str
    engine_class: str
    weight_format: str
    params_billion: float
    points: int


class Evidence(Value):
    """How well a prediction is backed. The interval holds about 80 % of like cases."""

    interval_factor: float = Field(description="rates and times per token run from value / factor to value x factor")
    ttft_interval_factor: float = Field(description="the same of the time to first token")
    measured_points: int = Field(description="same accelerator, engine class and weight format, within 2x in size")
    accelerator_points: int = Field(description="of the accelerator at all; 0: it inherits from its architecture")
    nearest: tuple[MeasuredClass, ...] = Field(
        description="the nearest measured kinds; `llm-fleet estimate` lists rows"
    )


class Boot(Value):
    """Seconds from launch to the first token, predicted from measured boots of others; low and high bound them."""

    first_s: float = Field(description="nothing cached: weights from the Hub, shapes compiled")
    later_s: float = Field(description="weights and compiled artefacts from the fleet's cache in S3")
    later_low_s: float
    later_high_s: float
    later_stages_s: dict[str, float]
    first_usd: float = Field(description="on demand, until the first token")
    later_usd: float
    usd_per_month: float = Field(description="boots that the pool's hours ask for; part of usd_per_month")


class Compiled(Value):
    """Shapes that a Neuron engine compiles once for the pool, and what padding to them wastes."""

    prompt_buckets_tokens: tuple[int, ...]
    cache_buckets_tokens: tuple[int, ...]
    batches: tuple[int, ...]
    graphs: int
    compile_s: float = Field(description="once, by the first instance; later ones take the artefacts from the cache")
    compile_usd: float
    prompt_waste: float = Field(description="share of a mean prompt's computed tokens that are padding")
    cache_waste: float = Field(description="share of the cache positions read that hold nothing")


class Split(Value):
    """One way to divide the instance: every replica is an engine over `tensor_parallel` devices."""

    tensor_parallel: int
    replicas: int
    requests_per_s: float = Field(description="at the largest load within the marks; 0 where it serves none")
    note: str = Field(description="why it serves nothing, or empty")


class Choice(Value):
    """One instance type of a pool, with its serving plan and what it is predicted to do."""

    instance_type: str
    rank: int
    accelerator: str
    accelerator_count: float
    architecture: Literal["x86_64", "arm64"]
    zone_ids: tuple[str, ...]
    capacity_weight: int = Field(description="capacity units; the slowest choice of the pool weighs 1")
    tensor_parallel: int = Field(description="devices per replica; NeuronCores on Neuron")
    replicas: int = Field(description="engine processes on the instance")
    precision: str
    kv_precision: str
    max_model_len_tokens: int
    max_num_seqs: int = Field(description="per replica: what memory holds and, by the typical prediction, the marks")
    max_num_batched_tokens: int = Field(description="per replica and step")
    memory: Memory
    largest_context_tokens: int = Field(description="of one sequence alone on a replica")
    full_length_sequences: int = Field(description="of max_model_len_tokens that fit one replica at once")
    splits: tuple[Split, ...] = Field(description="every tensor parallel degree that the engine and the heads allow")
    concurrency: int = Field(description="requests in flight per replica at the largest load within the marks")
    output_tokens_per_s: float = Field(description="whole instance, at that load")
    low_output_tokens_per_s: float = Field(description="what capacity is bought by: about nine in ten do better")
    high_output_tokens_per_s: float
    requests_per_s: float = Field(description="whole instance, at that load")
    low_requests_per_s: float
    ttft_ms: float = Field(description="predicted without queueing, at that load")
    high_ttft_ms: float = Field(description="the slow end, which keeps the mark")
    ttft_unloaded_ms: float
    tpot_ms: float = Field(description="predicted at that load")
    low_tpot_ms: float
    high_tpot_ms: float = Field(description="the slow end, which keeps the mark")
    evidence: Evidence
    boot: Boot
    compiled: Compiled | None = Field(description="null on engines that compile no shapes ahead")
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float | None
    spot_kind: Literal["observed", "derived"] | None
    price_date: str
    instances_at_expected_load: int
    usd_per_month: float = Field(description="of the pool at expected load, were it made of this type alone")
    usd_per_million_output_tokens: float


class EnginePlan(Value):
    """The engine of a pool: one vendor, one architecture, so one image and one AMI."""

    name: str
    version: str
    image: str
    ami_ssm_parameter: str
    ami_id: str | None = Field(description="given by the pattern; wins over the SSM parameter")
    static_shapes: bool
    status: str


class WeightsPlan(Value):
    """Where the weights come from. `repository` is null where none is known for the precision."""

    repository: str | None
    revision: str | None = Field(description="40-digit commit; null until looked up")
    format: str
    gated: bool
    token_secret_name: str | None = Field(description="Secrets Manager secret that holds the Hub token")


class Load(Value):
    """Requests to the pool: low is off-peak, expected the daily mean, peak the mean times the ratio."""

    input_tokens: int
    output_tokens: int
    requests_per_day: int
    low_requests_per_s: float
    expected_requests_per_s: float
    peak_requests_per_s: float


class Marks(Value):
    """What an answer must keep to."""

    ttft_ms: float
    tpot_ms: float


class Purchase(Value):
    """On-demand and spot. Counts in units unless named instances."""

    kind: PurchaseKind
    on_demand_base: int
    on_demand_base_instances: int
    spot_percent: int = Field(description="of what is above the base")
    on_demand_percent_above_base: int
    spot_percent_at_max: float = Field(description="real share of spot at the largest size")
    commit_instances: int = Field(description="steady instances worth a one-year commitment, bought outside the stack")
    source: str = Field(description="where the mix comes from: the pattern, the usage rule, or an override")


class StepOut(Value):
    """Add units while backlog per unit is above the mark (exclusive)."""

    above_backlog_per_unit: int
    add_units: int


class StepIn(Value):
    """Remove units after `minutes` in a row with backlog per unit below the mark and every other condition met."""

    below_backlog_per_unit: int
    remove_units: int
    minutes: int
    ttft_mark_ms: float
    in_flight_per_unit: int = Field(
        description="requests that one unit can hold; in-flight work must fit the units that stay"
    )


class Schedule(Value):
    """Sizes from a moment on. `cron` is minute hour day month weekday, in the IANA zone."""

    name: str
    cron: str
    time_zone: str
    min_units: int
    max_units: int


class Scaling(Value):
    """Sizes and rules of the group. One instance of the best choice is `units_per_instance` units."""

    units_per_instance: int
    min_instances: int
    max_instances: int
    min_units: int
    max_units: int
    target_backlog_per_unit: int
    steps_out: tuple[StepOut, ...]
    step_in: StepIn
    launch_hook_seconds: int
    drain_seconds: int
    schedules: tuple[Schedule, ...]


class LoadCost(Value):
    """Money at one load. Instances only."""

    instances: float = Field(description="mean over the month")
    usd_per_month: float
    usd_per_million_output_tokens: float | None = Field(description="null where no token is asked for")


class Cost(Value):
    """Money at the three loads of Load, instances only, month of 730 hours."""

    low: LoadCost
    expected: LoadCost
    peak: LoadCost


class GuideChoice(Value):
    """What one of the article's rules would take, and what that would cost for the same load and purchase mix."""

    instance_type: str
    rule: str
    monthly_usd: float | None = Field(description="null where the type cannot serve it; `note` says why")
    difference: float | None = Field(description="monthly_usd minus the plan's; positive: the plan is cheaper")
    note: str


class Guide(GuideChoice):
    """The article's choice by `select_instance_for_model`, with its other rule beside it."""

    beside: GuideChoice


class Alternative(Value):
    """The cheapest type of a family that could serve the pool, against the article's type."""

    instance_type: str
    usd_per_month: float
    saves_usd_per_month: float = Field(description="against the article's type; negative: it costs more")


class ArticleType(Value):
    """The source article's type for the pattern, judged like any other, and what others would save."""

    instance_type: str
    verdict: Literal["chosen", "ranked", "rejected"]
    usable_gib_per_device: float | None
    devices: int
    usd_per_month: float | None
    alternatives: tuple[Alternative, ...]


class Boldness(Value):
    """What it would save to size by the typical prediction in place of the low end of its interval."""

    instance_type: str
    instances_at_expected_load: int
    usd_per_month: float
    saves_usd_per_month: float


class Lever(Value):
    """A change that is the user's to make: what it would save, and what it costs in quality."""

    kind: LeverKind
    change: str
    how: str = Field(description="the override or the pattern's key that takes it")
    instance_type: str | None = Field(description="the cheapest type then; null where none can serve")
    usd_per_month: float | None
    saves_usd_per_month: float | None = Field(description="against the plan; negative: it costs more")
    quality_retained_percent: float | None = Field(description="null where no figure is known")
    quality_source: str
    note: str = Field(description="what else it takes, or why it cannot be had")


class PoolPlan(Value):
    """One pool: one group, one queue, one role."""

    role: Role
    required: bool
    fallback: tuple[Role, ...] = Field(description="roles that take over when this pool cannot, in order")
    model: str
    served_model_name: str
    precision: str
    usage: Usage
    load: Load
    marks: Marks
    vendor: Vendor
    architecture: Literal["x86_64", "arm64"]
    engine: EnginePlan
    weights: WeightsPlan
    zone_ids: tuple[str, ...] = Field(description="where every choice is offered")
    choices: Annotated[tuple[Choice, ...], Field(min_length=1)]
    rejected: tuple[Rejected, ...]
    headline: str = Field(description="in one sentence, what narrowed the list")
    purchase: Purchase
    scaling: Scaling
    cost: Cost
    sizing: Sizing = Field(description="cautious: by the low end of the intervals")
    boldness: Boldness
    levers: tuple[Lever, ...] = Field(description="largest saving first")
    guide: Guide
    article_type: ArticleType | None


class Deployment(Value):
    """What the stacks need beside the pools."""

    network: Network
    gateway: Gateway
    alarm_email: str | None
    budget_usd_per_month: int
    zone_ids: tuple[str, ...] = Field(description="zones of the region that a new VPC spans")


class FleetPlan(Value):
    """The whole plan of a pattern. Same input, same bytes."""

    pattern: str
    description: str
    region: str
    catalog_date: str
    overrides: dict[str, str]
    guide: Guide = Field(description="of the first required pool")
    pools: Annotated[tuple[PoolPlan, ...], Field(min_length=1)]
    routes: dict[Role, Role] = Field(description="role asked for -> pool that takes it")
    cost: Cost
    cost_scope: Literal["instances only"]
    deployment: Deployment
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """Canonical JSON: key order of the model, two spaces, one newline at the end."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"

    def fingerprint(self) -> str:
        """SHA-256 of the plan's canonical JSON: what runs can be traced to why."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def plan_json_schema() -> dict[str, Any]:
    """The JSON schema of `llm-fleet plan --json`."""
    return FleetPlan.model_json_schema(mode="serialization")
