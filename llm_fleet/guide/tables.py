"""The article's tables, with every figure as printed, the wrong ones too.

Source: Xavier Collantes, "AWS GPU Selection for LLM Workloads: A Production Guide", 2025-01-25. A claim number (A2 …)
names the place in the article; `docs/article.md` lists the claims, which figures are wrong and what the right ones are.
Figures are the article's, words are ours. It says GB for GB and GiB alike, so the names here say GB as well. Rows are
named tuples, because twenty frozen dataclasses would cost every `llm-fleet plan` 20 ms at import.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple


class InstanceSpec(NamedTuple):
    """An instance type as the article describes it; None where it prints nothing."""

    claim: str
    accelerator: str
    accelerator_count: int
    memory_gb: int
    usd_per_hour: float
    usd_per_accelerator_hour: float | None = None
    memory_bandwidth_gb_per_s: int | None = None
    nvlink_gb_per_s: int | None = None
    vcpus: int | None = None
    ram_gb: int | None = None
    network_gbps: int | None = None


# A2, A5, A8, A11, A13
INSTANCE_SPECS: Mapping[str, InstanceSpec] = MappingProxyType(
    {
        "p4d.24xlarge": InstanceSpec("A2", "A100 80GB", 8, 640, 32.77, 4.10, 1555, 600, 96, 1152, 400),
        "p3.2xlarge": InstanceSpec("A5", "V100 16GB", 1, 16, 3.06, None, 900),
        "p3.8xlarge": InstanceSpec("A5", "V100 16GB", 4, 64, 12.24, 3.06),
        "g5.xlarge": InstanceSpec("A8", "A10G 24GB", 1, 24, 1.01, 1.01, 600),
        "g5.12xlarge": InstanceSpec("A8", "A10G 24GB", 4, 96, 5.67, 1.42),
        "g5.48xlarge": InstanceSpec("A8", "A10G 24GB", 8, 192, 16.29, 2.04),
        "g4dn.xlarge": InstanceSpec("A11", "T4 16GB", 1, 16, 0.526, 0.526, 320),
        "inf2.xlarge": InstanceSpec("A13", "Inferentia2", 1, 32, 0.76),
        "inf2.48xlarge": InstanceSpec("A13", "Inferentia2", 12, 384, 9.09, 0.76),
    }
)


class FamilyUse(NamedTuple):
    """When the article reaches for an instance family; `obsolete` marks a family that EC2 no longer rents out."""

    claim: str
    uses: tuple[str, ...]
    obsolete: bool = False


# A4, A7, A10, A12, A15
FAMILY_USES: Mapping[str, FamilyUse] = MappingProxyType(
    {
        "p4d": FamilyUse(
            "A4",
            ("models of 70B and more", "training on several GPUs", "serving at high throughput", "a generous budget"),
        ),
        "p3": FamilyUse("A7", ("prototypes", "models up to 7B", "a small budget", "no P4d to be had"), obsolete=True),
        "g5": FamilyUse(
            "A10",
            ("production on a small budget", "models up to 13B", "development and tests", "many tenants at low rates"),
        ),
        "g4dn": FamilyUse(
            "A12", ("seldom for LLMs", "old models", "development at the lowest price", "nothing else to be had")
        ),
        "inf2": FamilyUse("A15", ("high volume", "models that seldom change", "proven workloads", "time to compile")),
    }
)


class PerformanceResult(NamedTuple):
    """A measurement the article prints. The engine is never named, nor whether the rate counts input tokens.

    `cost_per_1k_tokens_usd` is as printed: hourly price / tokens per second, 3.6 times what 1000 tokens cost.
    """

    claim: str
    tokens_per_s: int
    memory_usage_gb: float | None = None
    batch_size: int | None = None
    sequence_length_tokens: int | None = None
    cost_per_1k_tokens_usd: float | None = None
    compilation_hours: float | None = None


# A3, A6, A9, A11, A14; keyed by (instance type, the article's label). A6's cost of an A100 stands with A3's equal rate.
PERFORMANCE_RESULTS: Mapping[tuple[str, str], PerformanceResult] = MappingProxyType(
    {
        ("p4d.24xlarge", "llama_7b"): PerformanceResult("A3, A6", 2340, 14.2, 16, 2048, 0.0018),
        ("p4d.24xlarge", "llama_13b"): PerformanceResult("A3", 1150, 26.8, 8, 2048),
        ("p4d.24xlarge", "llama_70b"): PerformanceResult("A3", 89, 560, 1, 2048),
        ("p3.2xlarge", "llama_7b"): PerformanceResult("A6", 890, cost_per_1k_tokens_usd=0.0034),
        ("g5.xlarge", "llama_7b_int8"): PerformanceResult("A9", 156, 8.3, cost_per_1k_tokens_usd=0.0065),
        ("g5.xlarge", "llama_13b_int8"): PerformanceResult("A9", 73, 15.7, cost_per_1k_tokens_usd=0.0138),
        ("g4dn.xlarge", "llama_7b"): PerformanceResult("A11", 45, 14.1, cost_per_1k_tokens_usd=0.0117),
        ("inf2.xlarge", "llama_7b_compiled"): PerformanceResult(
            "A14", 1200, cost_per_1k_tokens_usd=0.00063, compilation_hours=2.5
        ),
    }
)

# A16, the only precisions the memory rule knows
BYTES_PER_PARAMETER: Mapping[str, float] = MappingProxyType({"fp32": 4, "fp16": 2, "int8": 1, "int4": 0.5})

# A17, printed beside the memory rule as its results; keyed by (billions of parameters, precision)
MEMORY_REQUIREMENTS_GB: Mapping[tuple[int, str], float] = MappingProxyType(
    {(7, "fp16"): 21, (13, "fp16"): 39, (70, "fp16"): 210, (7, "int8"): 10.5}
)


class CostEfficiency(NamedTuple):
    """Price and rate of an instance. The article calls the quotient "tokens per dollar"; its unit is named here."""

    usd_per_hour: float
    tokens_per_s: int
    tokens_per_s_per_usd_per_hour: float


# A19; A20 computes with the same prices and rates
COST_EFFICIENCY_ANALYSIS: Mapping[str, CostEfficiency] = MappingProxyType(
    {
        "p4d.24xlarge": CostEfficiency(32.77, 2340, 71.4),
        "g5.xlarge": CostEfficiency(1.01, 156, 154.5),
        "inf2.xlarge": CostEfficiency(0.76, 1200, 1578.9),
    }
)


class DeploymentPattern(NamedTuple):
    """One of the article's four set-ups, with the month and the capacity it prints."""

    instance_type: str
    model: str
    monthly_usd: int
    capacity_tokens_per_day: int


# A21, under the kit's names for them (the article writes an underscore where these have a hyphen)
DEPLOYMENT_PATTERNS: Mapping[str, DeploymentPattern] = MappingProxyType(
    {
        "startup-mvp": DeploymentPattern("g5.xlarge", "llama-7b-int8", 742, 13_500_000),
        "scaling-startup": DeploymentPattern("g5.12xlarge", "llama-13b-fp16", 4163, 25_000_000),
        "enterprise-production": DeploymentPattern("p4d.24xlarge", "llama-70b-fp16", 24075, 230_000_000),
        "cost-optimized-scale": DeploymentPattern("inf2.48xlarge", "llama-13b-compiled", 6678, 450_000_000),
    }
)

Availability = Literal["excellent", "good", "limited", "very limited", "not available"]


class RegionAvailability(NamedTuple):
    """How easily the article finds each type in a region, and the range of spot savings it prints (lowest, highest)."""

    by_instance_type: Mapping[str, Availability]
    spot_savings_percent: tuple[int, int]


def _region(p4d: Availability, g5: Availability, inf2: Availability, low: int, high: int) -> RegionAvailability:
    words: dict[str, Availability] = {"p4d.24xlarge": p4d, "g5.xlarge": g5, "inf2.xlarge": inf2}
    return RegionAvailability(MappingProxyType(words), (low, high))


# A22
AVAILABILITY_MAP: Mapping[str, RegionAvailability] = MappingProxyType(
    {
        "us-east-1": _region("good", "excellent", "good", 30, 70),
        "us-west-2": _region("limited", "good", "limited", 20, 60),
        "eu-west-1": _region("very limited", "good", "not available", 40, 80),
    }
)


class SpotSavings(NamedTuple):
    """Spot savings below the on-demand price that the article reports for a type, in percent."""

    average_percent: int
    maximum_percent: int


# A25
SPOT_SAVINGS_ACHIEVED: Mapping[str, SpotSavings] = MappingProxyType(
    {"g5.xlarge": SpotSavings(65, 85), "p4d.24xlarge": SpotSavings(45, 70), "g4dn.xlarge": SpotSavings(70, 90)}
)


class RouterInstance(NamedTuple):
    """A pool of the article's router. `cost_per_token` is in no one unit: the three pools use three scales."""

    endpoint: str
    cost_per_token: float
    avg_latency_ms: int
    max_tokens: int


# A27, keyed by role
ROUTER_INSTANCES: Mapping[str, RouterInstance] = MappingProxyType(
    {
        "high_performance": RouterInstance("p4d-cluster.internal", 0.00175, 45, 4096),
        "cost_efficient": RouterInstance("g5-cluster.internal", 0.00065, 120, 2048),
        "batch_processing": RouterInstance("inf2-cluster.internal", 0.00032, 200, 2048),
    }
)


class TargetTracking(NamedTuple):
    """A28: keep the queue near a depth."""

    metric: str
    target_messages: int
    scale_out_cooldown_s: int
    scale_in_cooldown_s: int


class InstanceLimits(NamedTuple):
    """A29: always some on-demand, never more than a maximum, the rest mostly spot."""

    min_on_demand_instances: int
    max_instances: int
    spot_percent: int


class ScaleOut(NamedTuple):
    """A30: fires strictly above the depth."""

    name: str
    adjustment_instances: int
    above_messages: int


class ScaleIn(NamedTuple):
    """A30: fires strictly below the depth while latency is strictly below its mark too."""

    name: str
    adjustment_instances: int
    below_messages: int
    below_latency_ms: int


class AutoscalingConfig(NamedTuple):
    """The article's scaling figures in one place: A28, A29, A30."""

    target_tracking: TargetTracking
    instance_mix: InstanceLimits
    scale_out: ScaleOut
    scale_in: ScaleIn


AUTOSCALING_CONFIG = AutoscalingConfig(
    target_tracking=TargetTracking("SQSApproximateNumberOfVisibleMessages", 10, 300, 900),
    instance_mix=InstanceLimits(min_on_demand_instances=1, max_instances=10, spot_percent=70),
    scale_out=ScaleOut("scale-out-aggressive", 2, above_messages=50),
    scale_in=ScaleIn("scale-in-conservative", -1, below_messages=5, below_latency_ms=100),
)


class UsagePattern(NamedTuple):
    """A workload's rhythm, the kit's word for it, and the saving the article reports from buying accordingly."""

    usage: Literal["office-hours", "overnight", "steady"]
    strategy: tuple[str, ...]
    cost_savings_percent: int
    peak_hours: tuple[int, int] | None = None
    time_zone: str | None = None
    off_peak_reduction_percent: int | None = None


# A31; "EST" is the article's word, and no IANA zone that follows daylight saving time
USAGE_PATTERN_ANALYSIS: Mapping[str, UsagePattern] = MappingProxyType(
    {
        "customer_support_chatbot": UsagePattern("office-hours", ("schedule", "spot"), 60, (9, 17), "EST", 85),
        "content_generation": UsagePattern("overnight", ("spot only",), 70),
        "api_service": UsagePattern("steady", ("reserved", "on-demand buffer"), 35),
    }
)


class OptimizationTechnique(NamedTuple):
    """What a way of making a model smaller gains and costs. Signs change meaning between rows, so each says its own."""

    memory_reduction_percent: int
    performance_percent: int
    performance_positive_means: Literal["slower", "faster"]
    quality_percent: int
    quality_means: Literal["lost", "kept"]


# A33
OPTIMIZATION_TECHNIQUES: Mapping[str, OptimizationTechnique] = MappingProxyType(
    {
        "quantization int8": OptimizationTechnique(50, 10, "slower", 2, "lost"),
        "quantization int4": OptimizationTechnique(75, 5, "slower", 8, "lost"),
        "structured pruning": OptimizationTechnique(30, -5, "slower", 3, "lost"),
        "distillation 7b to 3b": OptimizationTechnique(55, 180, "faster", 90, "kept"),
    }
)


class CaseStudySide(NamedTuple):
    """One side of the article's worked example."""

    model: str
    instance_type: str
    monthly_usd: int
    tokens_per_s: int


class CaseStudy(NamedTuple):
    """The article's worked example: model, precision and GPU all change at once."""

    before: CaseStudySide
    after: CaseStudySide
    quality_retention_percent: int
    cost_reduction_percent: int
    performance_improvement_percent: int


# A34
COST_OPTIMIZATION_CASE_STUDY = CaseStudy(
    before=CaseStudySide("llama-13b-fp16", "p3.8xlarge", 8976, 145),
    after=CaseStudySide("llama-7b-int4", "g5.xlarge", 742, 198),
    quality_retention_percent=92,
    cost_reduction_percent=92,
    performance_improvement_percent=37,
)


class VolumeBand(NamedTuple):
    """What the article recommends for a range of requests a day, lowest and highest included.

    None stands for no upper mark, or for no volume at all.
    """

    requests_per_day: tuple[int, int | None] | None
    instance_types: tuple[str, ...]
    advice: tuple[str, ...]


# A35. The article puts 1 000 000 into two bands; it stands in the lower one here, as `choose_aws_gpu_instance` has it.
VOLUME_BANDS: Mapping[str, VolumeBand] = MappingProxyType(
    {
        "prototype": VolumeBand(None, ("g5.xlarge",), ("7B in int8",)),
        "mvp": VolumeBand(
            (0, 99_999), ("g5.xlarge", "g5.2xlarge"), ("Inferentia2 for those who will compile", "spot for batch work")
        ),
        "scaling": VolumeBand((100_000, 1_000_000), ("g5.12xlarge",), ("on-demand and spot mixed", "several regions")),
        "enterprise": VolumeBand(
            (1_000_001, None),
            ("p4d.24xlarge", "inf2.48xlarge"),
            ("P4d for large models", "Inferentia2 for cost", "reserved base", "elaborate scaling"),
        ),
    }
)
