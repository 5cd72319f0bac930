"""The shape of a pattern file: what a user may write, with units, limits and defaults. Published as
configs/schemas/pattern.json.
"""

from __future__ import annotations

import zoneinfo
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from llm_fleet.errors import nearest_of
from llm_fleet.patterns.words import IMAGE_BUILD, IMAGE_PATTERN, ROLES, KvPrecision, Role, Sizing, Usage

MAX_UNITS_OF_WORK = 1_000_000_000


class Part(BaseModel):
    """Base of every part: frozen, no unknown keys, no coercion of text into numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _known_time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        close = nearest_of(name, zoneinfo.available_timezones()) or "America/New_York"
        raise ValueError(f"{name!r} is not an IANA time zone; did you mean {close}?") from None
    return name


Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Milliseconds = Annotated[float, Field(gt=0, le=3_600_000)]
Count = Annotated[int, Field(ge=0, le=1000)]
Percent = Annotated[int, Field(ge=0, le=100)]
TimeZone = Annotated[str, AfterValidator(_known_time_zone)]
Hour = Annotated[int, Field(ge=0, le=23)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]


class Workload(Part):
    """What is asked of the pool. Token counts are per request; the day's requests are the mean over a month."""

    input_tokens: Tokens
    output_tokens: Tokens
    requests_per_day: Annotated[int, Field(ge=1, le=MAX_UNITS_OF_WORK)]
    peak_to_mean: Annotated[float, Field(ge=1, le=1000, strict=False)]


class UsagePattern(Part):
    """When work comes. office-hours: 85 % less outside the hours; overnight: only within them; steady: hours are
    ignored.
    """

    kind: Usage
    time_zone: TimeZone = "America/New_York"
    start_hour: Hour = 9
    end_hour: Hour = 17
    weekdays_only: bool = True
    off_peak_reduction_percent: Percent = 85


class Marks(Part):
    """What an answer must keep to: time to first token without queueing, time per output token."""

    ttft_ms: Milliseconds
    tpot_ms: Milliseconds


class Purchase(Part):
    """The mix written out. Left away, it follows the usage (calculate_optimal_instance_mix)."""

    on_demand_base_instances: Count = 1
    spot_percent: Percent = 70


class ScalingRules(Part):
    """Numbers of instances, and the article's marks on backlog per capacity unit."""

    min_instances: Count = 1
    max_instances: Annotated[int, Field(ge=1, le=1000)] = 10
    target_backlog: Annotated[int, Field(ge=1, le=100_000)] = 10
    step_out_above: Annotated[int, Field(ge=1, le=100_000)] = 50
    step_out_instances: Annotated[int, Field(ge=1, le=100)] = 2
    step_in_below: Annotated[int, Field(ge=1, le=100_000)] = 5
    step_in_instances: Annotated[int, Field(ge=1, le=100)] = 1
    step_in_minutes: Annotated[int, Field(ge=1, le=60)] = 15
    step_in_ttft_ms: Milliseconds = 100.0
    target_utilization: Annotated[float, Field(gt=0, le=1)] = 0.8
    launch_hook_seconds: Annotated[int, Field(ge=30, le=7200)] = 1800
    drain_seconds: Annotated[int, Field(ge=30, le=7200)] = 300

    @model_validator(mode="after")
    def _limits_agree(self) -> ScalingRules:
        if self.min_instances > self.max_instances:
            raise ValueError(f"min_instances {self.min_instances} is above max_instances {self.max_instances}")
        if self.step_in_below > self.target_backlog:
            raise ValueError(f"step_in_below {self.step_in_below} is above target_backlog {self.target_backlog}")
        if self.target_backlog > self.step_out_above:
            raise ValueError(f"target_backlog {self.target_backlog} is above step_out_above {self.step_out_above}")
        return self


class Weights(Part):
    """Where weights come from: the Hub, cached in S3. A gated model needs a token in Secrets Manager."""

    source: Literal["hub"] = "hub"
    repository: ModelName | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    token_secret_name: Annotated[str, Field(min_length=1, max_length=512)] = "llm-fleet/hub-token"


class Constraints(Part):
    """What a type must meet beside serving the load. Left away: no limit."""

    instance_families: Names | None = None
    architectures: Annotated[tuple[Literal["x86_64", "arm64"], ...], Field(strict=False, min_length=1)] | None = None
    zone_ids: Names | None = None
    max_usd_per_month: Annotated[float, Field(gt=0, strict=False)] | None = None


class GuideInputs(Part):
    """What the article's rules are asked: select_instance_for_model and choose_aws_gpu_instance."""

    performance_target: Literal["high", "medium", "low"] = "medium"
    budget_constraint: Literal["flexible", "moderate", "tight"] = "moderate"
    budget_level: Literal["flexible", "moderate", "minimal"] = "moderate"
    max_latency_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 200


class Pool(Part):
    """One role's pool."""

    required: bool = True
    model: ModelName | None = Field(default=None, description="overrides the pattern's model")
    precision: str | None = Field(default=None, description="overrides the pattern's precision")
    max_model_len_tokens: Tokens = 4096
    kv_precision: KvPrecision = Field(
        default="auto", description="of the cache: auto is 16 bit; fp8 takes half the memory, on GPUs that have it"
    )
    workload: Workload
    usage: UsagePattern
    marks: Marks
    purchase: Purchase | None = None
    scaling: ScalingRules = ScalingRules()
    weights: Weights = Weights()
    constraints: Constraints = Constraints()
    guide: GuideInputs = GuideInputs()
    ami_id: Annotated[str, Field(pattern=r"^ami-[0-9a-f]{8,17}$")] | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Pool:
        asked = self.workload.input_tokens + self.workload.output_tokens
        if asked > self.max_model_len_tokens:
            raise ValueError(
                f"workload asks for {asked} tokens in one request, above max_model_len_tokens "
                f"{self.max_model_len_tokens}"
            )
        base = self.purchase.on_demand_base_instances if self.purchase else 0
        if base > self.scaling.max_instances:
            raise ValueError(f"on_demand_base_instances {base} is above max_instances {self.scaling.max_instances}")
        return self


class Network(Part):
    """The VPC: a new one, or an existing one by its ids (never by a look-up)."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]{8,17}$")] | None = None
    vpc_cidr: str | None = Field(default=None, description="of the existing VPC")
    private_subnet_ids: dict[str, str] = Field(default_factory=dict, description="zone id -> subnet id")
    public_subnet_ids: dict[str, str] = Field(default_factory=dict, description="zone id -> subnet id")
    nat_gateways: Annotated[int, Field(ge=0, le=6)] = 1

    @model_validator(mode="after")
    def _existing_needs_its_ids(self) -> Network:
        if self.vpc_id and not (self.vpc_cidr and self.private_subnet_ids):
            raise ValueError("an existing vpc_id needs vpc_cidr and private_subnet_ids by zone id")
        return self


class Gateway(Part):
    """The router service in front of the pools."""

    image: str = Field(
        default=IMAGE_BUILD,
        pattern=IMAGE_PATTERN,
        description="of gateway and workers: a container image URI; build: made from the Dockerfile at deploy; "
        "none: nothing runs, the service stands at zero tasks",
    )
    architecture: Literal["x86_64", "arm64"] = Field(
        default="x86_64", description="of the gateway's tasks; a given image must be made for it"
    )
    min_tasks: Annotated[int, Field(ge=1, le=100)] = 2
    max_tasks: Annotated[int, Field(ge=1, le=100)] = 10
    certificate_arn: str | None = Field(default=None, description="ACM certificate; none: HTTP inside the VPC only")
    public: bool = Field(default=False, description="internet-facing; needs a certificate")


class Deploy(Part):
    """What the stacks need beside the pools."""

    network: Network = Network()
    gateway: Gateway = Gateway()
    alarm_email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    budget_usd_per_month: Annotated[int, Field(ge=1, le=100_000_000)]

    @model_validator(mode="after")
    def _public_needs_a_certificate(self) -> Deploy:
        if self.gateway.public and not self.gateway.certificate_arn:
            raise ValueError("a public gateway needs certificate_arn: keys must not travel in clear text")
        if self.gateway.min_tasks > self.gateway.max_tasks:
            raise ValueError(f"gateway min_tasks {self.gateway.min_tasks} is above max_tasks {self.gateway.max_tasks}")
        return self


class Pattern(Part):
    """A deployment pattern. Its name names the stacks: <name> and <name>-foundation."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,99}$", description="letters, digits, hyphens")]
    description: Annotated[str, Field(min_length=1, max_length=400)]
    region: str
    model: ModelName
    precision: str
    sizing: Sizing = Field(
        default="cautious",
        description="cautious: capacity by the low end of each prediction's interval; bold: by the typical prediction",
    )
    article_instance_type: str | None = Field(default=None, description="the source article's type for this pattern")
    pools: Annotated[dict[Role, Pool], Field(min_length=1)]
    fallback: dict[Role, Annotated[tuple[Role, ...], Field(strict=False)]] = Field(
        default_factory=dict[Role, tuple[Role, ...]],
        description="role -> roles that take over when its pool is missing, empty or saturated, in order",
    )
    deploy: Deploy

    @model_validator(mode="after")
    def _roles_agree(self) -> Pattern:
        if not any(pool.required for pool in self.pools.values()):
            raise ValueError("at least one pool must be required: true")
        for role, chain in self.fallback.items():
            if role in chain:
                raise ValueError(f"the fallback of {role} names {role} itself")
            if len(set(chain)) != len(chain):
                raise ValueError(f"the fallback of {role} names a role twice")
        for role in ROLES:
            if role not in self.pools and not any(other in self.pools for other in self.fallback.get(role, ())):
                raise ValueError(f"role {role} has no pool and its fallback leads to none: add fallback.{role}")
        return self
