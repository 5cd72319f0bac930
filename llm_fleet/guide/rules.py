"""The article's rules as functions, under the article's own names, with its marks, gaps and failures left in.

Source: Xavier Collantes, "AWS GPU Selection for LLM Workloads: A Production Guide", 2025-01-25. Claim numbers (A16 …)
are those of `docs/article.md`. Argument and key names are the article's too, also where they carry no unit or a wrong
one: the docstrings give the true one. Branches that no input reaches, or that agree with their neighbour, are left out.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

from llm_fleet.guide.tables import (
    AUTOSCALING_CONFIG,
    BYTES_PER_PARAMETER,
    COST_EFFICIENCY_ANALYSIS,
    ROUTER_INSTANCES,
)

BYTES_PER_GIB = 1024**3
DAYS_PER_MONTH = 30
HOURS_PER_MONTH = 24 * DAYS_PER_MONTH
SECONDS_PER_DAY = 86_400


class MonthlyCost(TypedDict):
    """A20: USD per month, share of the instance's rate in use (may pass 1), USD per token."""

    monthly_cost: float
    utilization: float
    cost_per_token: float


class InstanceMix(TypedDict):
    """A32: percent of capacity by way of purchase, summing to 100, and the saving expected from it in percent."""

    reserved: int
    on_demand: int
    spot: int
    expected_savings: int


class Requirements(TypedDict, total=False):
    """A36: what `choose_aws_gpu_instance` reads; a missing key takes the article's default."""

    model_params_billion: float
    budget_level: str
    max_latency_ms: float
    requests_per_day: float


class Request(Protocol):
    """A26: what `route_request` reads of a request."""

    @property
    def priority(self) -> str: ...
    @property
    def budget(self) -> str: ...
    @property
    def tokens(self) -> float: ...


class Route(TypedDict):
    """A26: the role chosen and that role's row of `ROUTER_INSTANCES`."""

    role: str
    returned: dict[str, str | float]


class ScalingStep(TypedDict):
    """A30: a policy that fires and the number of instances it adds (negative: removes)."""

    policy: str
    adjustment: int


def estimate_gpu_memory_requirements(
    model_params_billion: float, precision: str = "fp16", safety_margin: float = 1.5
) -> float:
    """A16: memory of a model in GiB, as its weights times a margin. Blind to context, batch and the model's shape.

    Raises KeyError for a precision other than fp32, fp16, int8, int4.
    """
    weights_gib = model_params_billion * 1e9 * BYTES_PER_PARAMETER[precision] / BYTES_PER_GIB
    return weights_gib * safety_margin


def select_instance_for_model(memory_needed_gb: float, performance_target: str, budget_constraint: str) -> str:
    """A18: an instance type for a memory need (in GiB when it comes from the rule above, though the marks mean GB).

    Targets it knows: high, medium; budgets: flexible, moderate, tight. Any other word leads to the default, g5.xlarge.
    """
    if memory_needed_gb > 80:
        return "p4d.24xlarge"
    if performance_target == "high" and budget_constraint == "flexible":
        return "p4d.24xlarge"
    if performance_target == "medium" and budget_constraint == "moderate":
        return _medium_and_moderate(memory_needed_gb)
    if budget_constraint == "tight" and memory_needed_gb <= 16:
        return "g4dn.xlarge"
    return "g5.xlarge"


def _medium_and_moderate(memory_needed_gb: float) -> str:
    if memory_needed_gb <= 24:
        return "g5.xlarge"
    if memory_needed_gb <= 48:
        return "g5.12xlarge"
    return "p3.8xlarge"


def choose_aws_gpu_instance(requirements: Requirements) -> str:
    """A36: an instance type for model size, budget, latency and volume, tested in this order.

    The one budget it knows is minimal; other words and unknown keys count for nothing.
    """
    model_params_billion = requirements.get("model_params_billion", 7)
    if model_params_billion > 30:
        return "p4d.24xlarge"
    if requirements.get("budget_level", "moderate") == "minimal":
        return "g5.xlarge" if model_params_billion <= 7 else "g4dn.2xlarge"
    if requirements.get("max_latency_ms", 200) < 50:
        return "p4d.24xlarge"
    if requirements.get("requests_per_day", 10_000) > 1_000_000:
        return "inf2.48xlarge"
    return "g5.xlarge" if model_params_billion <= 13 else "g5.12xlarge"


def calculate_monthly_cost(tokens_per_day: float, instance_type: str) -> MonthlyCost:
    """A20: the cost of one instance for a month of 720 h, whatever the load, and how much of it the load uses.

    Raises KeyError for a type outside `COST_EFFICIENCY_ANALYSIS`, ZeroDivisionError for no tokens.
    """
    instance = COST_EFFICIENCY_ANALYSIS[instance_type]
    monthly_usd = instance.usd_per_hour * HOURS_PER_MONTH
    return {
        "monthly_cost": monthly_usd,
        "utilization": tokens_per_day / (instance.tokens_per_s * SECONDS_PER_DAY),
        "cost_per_token": monthly_usd / (tokens_per_day * DAYS_PER_MONTH),
    }


def calculate_optimal_instance_mix(workload_pattern: Mapping[str, Any]) -> InstanceMix:
    """A32: how to buy capacity for a workload of a `pattern` ("batch" or any word) and a `peak_variation`.

    The article never defines peak_variation; the kit takes it as peak / mean of the load.
    Raises KeyError without `pattern`, or without `peak_variation` unless the pattern is "batch".
    """
    if workload_pattern["pattern"] == "batch":
        return {"reserved": 0, "on_demand": 10, "spot": 90, "expected_savings": 65}
    if workload_pattern["peak_variation"] > 3:
        return {"reserved": 30, "on_demand": 20, "spot": 50, "expected_savings": 45}
    return {"reserved": 70, "on_demand": 20, "spot": 10, "expected_savings": 35}


def route_request(request: Request) -> Route:
    """A26: the pool for a request.

    Attributes are read in the article's order: a missing one raises AttributeError only where it decides.
    """
    role = _role(request)
    return {"role": role, "returned": ROUTER_INSTANCES[role]._asdict()}


def _role(request: Request) -> str:
    if request.priority == "realtime" and request.budget == "flexible":
        return "high_performance"
    if request.tokens > 2048:
        return "high_performance"
    return "batch_processing" if request.priority == "batch" else "cost_efficient"


def spot_savings_percent(on_demand_price: float, spot_price: float) -> float:
    """A24: how far a spot price lies below the on-demand price, in percent; negative above it.

    Raises ZeroDivisionError for an on-demand price of 0.
    """
    return (on_demand_price - spot_price) / on_demand_price * 100


def scaling_policies(queue_depth: float, avg_latency_ms: float) -> list[ScalingStep]:
    """A30: the step policies that fire at a queue depth in messages and a mean latency; all marks are strict.

    Target tracking (A28) is no part of it.
    """
    scale_out, scale_in = AUTOSCALING_CONFIG.scale_out, AUTOSCALING_CONFIG.scale_in
    if queue_depth > scale_out.above_messages:
        return [{"policy": scale_out.name, "adjustment": scale_out.adjustment_instances}]
    if queue_depth < scale_in.below_messages and avg_latency_ms < scale_in.below_latency_ms:
        return [{"policy": scale_in.name, "adjustment": scale_in.adjustment_instances}]
    return []
