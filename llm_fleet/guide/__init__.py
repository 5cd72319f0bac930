"""The source article's rules and tables as they stand, kept as a yardstick: the planner decides, this room never does.

    >>> from llm_fleet.guide import estimate_gpu_memory_requirements, select_instance_for_model
    >>> select_instance_for_model(estimate_gpu_memory_requirements(13, "int8"), "medium", "moderate")
    'g5.xlarge'

`docs/article.md` says where a printed figure is wrong and what the kit does instead.
"""

from llm_fleet.guide.rules import (
    InstanceMix,
    MonthlyCost,
    Request,
    Requirements,
    Route,
    ScalingStep,
    calculate_monthly_cost,
    calculate_optimal_instance_mix,
    choose_aws_gpu_instance,
    estimate_gpu_memory_requirements,
    route_request,
    scaling_policies,
    select_instance_for_model,
    spot_savings_percent,
)
from llm_fleet.guide.tables import (
    AUTOSCALING_CONFIG,
    AVAILABILITY_MAP,
    BYTES_PER_PARAMETER,
    COST_EFFICIENCY_ANALYSIS,
    COST_OPTIMIZATION_CASE_STUDY,
    DEPLOYMENT_PATTERNS,
    FAMILY_USES,
    INSTANCE_SPECS,
    MEMORY_REQUIREMENTS_GB,
    OPTIMIZATION_TECHNIQUES,
    PERFORMANCE_RESULTS,
    ROUTER_INSTANCES,
    SPOT_SAVINGS_ACHIEVED,
    USAGE_PATTERN_ANALYSIS,
    VOLUME_BANDS,
)

__all__ = [
    "AUTOSCALING_CONFIG",
    "AVAILABILITY_MAP",
    "BYTES_PER_PARAMETER",
    "COST_EFFICIENCY_ANALYSIS",
    "COST_OPTIMIZATION_CASE_STUDY",
    "DEPLOYMENT_PATTERNS",
    "FAMILY_USES",
    "INSTANCE_SPECS",
    "MEMORY_REQUIREMENTS_GB",
    "OPTIMIZATION_TECHNIQUES",
    "PERFORMANCE_RESULTS",
    "ROUTER_INSTANCES",
    "SPOT_SAVINGS_ACHIEVED",
    "USAGE_PATTERN_ANALYSIS",
    "VOLUME_BANDS",
    "InstanceMix",
    "MonthlyCost",
    "Request",
    "Requirements",
    "Route",
    "ScalingStep",
    "calculate_monthly_cost",
    "calculate_optimal_instance_mix",
    "choose_aws_gpu_instance",
    "estimate_gpu_memory_requirements",
    "route_request",
    "scaling_policies",
    "select_instance_for_model",
    "spot_savings_percent",
]
