"""Printed rates, capacities, latencies and scaling figures beside their own rules and AWS's: A3 to A14, A21 to A36."""

from collections.abc import Mapping
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import pytest

from llm_fleet.guide import (
    AUTOSCALING_CONFIG,
    AVAILABILITY_MAP,
    COST_OPTIMIZATION_CASE_STUDY,
    DEPLOYMENT_PATTERNS,
    INSTANCE_SPECS,
    OPTIMIZATION_TECHNIQUES,
    PERFORMANCE_RESULTS,
    ROUTER_INSTANCES,
    VOLUME_BANDS,
    choose_aws_gpu_instance,
    route_request,
    scaling_policies,
)

SECONDS_PER_DAY = 86_400


class Sent(NamedTuple):
    priority: str
    budget: str
    tokens: int


def tokens_per_day(tokens_per_s: float) -> float:
    return tokens_per_s * SECONDS_PER_DAY


def test_the_7b_rate_printed_for_p4d_lies_between_one_measured_a100_and_eight(aws: Mapping[str, float]) -> None:
    printed = PERFORMANCE_RESULTS["p4d.24xlarge", "llama_7b"]
    vllm = aws["Llama-2-7B on one A100 batch 16 tokens_per_s vLLM"]
    tensorrt_llm = aws["Llama-2-7B on one A100 batch 16 tokens_per_s TensorRT-LLM"]
    assert (printed.tokens_per_s, printed.batch_size) == (2340, 16)
    assert (vllm, tensorrt_llm) == (1308, 1434)
    assert tensorrt_llm < printed.tokens_per_s < 8 * vllm


def test_the_7b_rate_printed_for_an_a10g_exceeds_what_its_bandwidth_lets_one_stream_have() -> None:
    bandwidth_gb_per_s = INSTANCE_SPECS["g5.xlarge"].memory_bandwidth_gb_per_s
    assert bandwidth_gb_per_s == 600
    assert bandwidth_gb_per_s / 7 == pytest.approx(85.7, abs=0.05)
    assert PERFORMANCE_RESULTS["g5.xlarge", "llama_7b_int8"].tokens_per_s == 156


def test_inferentia_competes_with_an_a100_at_51_percent_of_its_rate() -> None:
    inferentia = PERFORMANCE_RESULTS["inf2.xlarge", "llama_7b_compiled"].tokens_per_s
    a100 = PERFORMANCE_RESULTS["p4d.24xlarge", "llama_7b"].tokens_per_s
    assert (inferentia, a100) == (1200, 2340)
    assert 100 * inferentia / a100 == pytest.approx(51.3, abs=0.05)


def test_twelve_chips_measured_are_slower_than_the_one_chip_printed(aws: Mapping[str, float]) -> None:
    assert PERFORMANCE_RESULTS["inf2.xlarge", "llama_7b_compiled"].tokens_per_s == 1200
    assert aws["Llama-2-7B on inf2.48xlarge batch 8 tokens_per_s"] == 725.8


def test_startup_mvps_capacity_is_its_gpu_busy_all_day() -> None:
    assert DEPLOYMENT_PATTERNS["startup-mvp"].capacity_tokens_per_day == 13_500_000
    assert tokens_per_day(PERFORMANCE_RESULTS["g5.xlarge", "llama_7b_int8"].tokens_per_s) == pytest.approx(
        13.48e6, abs=5e3
    )


def test_scaling_startups_fp16_capacity_is_four_times_an_int8_rate() -> None:
    printed = DEPLOYMENT_PATTERNS["scaling-startup"]
    assert (printed.model, printed.capacity_tokens_per_day) == ("llama-13b-fp16", 25_000_000)
    assert tokens_per_day(4 * PERFORMANCE_RESULTS["g5.xlarge", "llama_13b_int8"].tokens_per_s) == pytest.approx(
        25.23e6, abs=5e3
    )


def test_enterprise_productions_capacity_is_30_times_its_own_rate() -> None:
    printed = DEPLOYMENT_PATTERNS["enterprise-production"]
    at_70b = tokens_per_day(PERFORMANCE_RESULTS["p4d.24xlarge", "llama_70b"].tokens_per_s)
    at_7b = tokens_per_day(PERFORMANCE_RESULTS["p4d.24xlarge", "llama_7b"].tokens_per_s)
    assert (printed.model, printed.capacity_tokens_per_day) == ("llama-70b-fp16", 230_000_000)
    assert at_70b == pytest.approx(7.69e6, abs=5e3)
    assert printed.capacity_tokens_per_day / at_70b == pytest.approx(29.9, abs=0.05)
    assert at_7b == pytest.approx(202.2e6, abs=5e4)


def test_cost_optimized_scales_capacity_is_9_times_what_aws_measures(aws: Mapping[str, float]) -> None:
    printed = DEPLOYMENT_PATTERNS["cost-optimized-scale"].capacity_tokens_per_day
    measured = tokens_per_day(aws["Llama-2-13B on inf2.48xlarge batch 8 tokens_per_s"])
    assert printed == 450_000_000
    assert printed / SECONDS_PER_DAY / 12 == pytest.approx(434, abs=0.5)
    assert measured == pytest.approx(50.97e6, abs=5e3)
    assert printed / measured == pytest.approx(8.8, abs=0.05)


@pytest.mark.parametrize(
    ("instance_type", "region", "printed", "zones"),
    [
        pytest.param("inf2.xlarge", "eu-west-1", "not available", 3, id="inf2 is offered in eu-west-1"),
        pytest.param(
            "inf2.xlarge", "us-west-2", "limited", 4, id="inf2 has as many zones in us-west-2 as in us-east-1"
        ),
        pytest.param("inf2.xlarge", "us-east-1", "good", 4, id="inf2 in us-east-1"),
        pytest.param(
            "p4d.24xlarge", "us-west-2", "limited", 4, id="p4d has as many zones in us-west-2 as in us-east-1"
        ),
        pytest.param("p4d.24xlarge", "us-east-1", "good", 4, id="p4d in us-east-1"),
    ],
)
def test_words_for_availability_do_not_follow_the_zones_that_offer_a_type(
    instance_type: str, region: str, printed: str, zones: int, aws: Mapping[str, float]
) -> None:
    assert AVAILABILITY_MAP[region].by_instance_type[instance_type] == printed
    assert aws[f"{instance_type} zones {region}"] == zones


def test_the_router_sends_a_request_beyond_the_pools_own_limit() -> None:
    route = route_request(Sent(priority="default", budget="moderate", tokens=4097))
    assert (route["role"], route["returned"]["max_tokens"]) == ("high_performance", 4096)


def test_a_long_batch_request_goes_to_the_dearest_pool() -> None:
    route = route_request(Sent(priority="batch", budget="tight", tokens=2049))
    assert route["role"] == "high_performance"
    assert route["returned"]["cost_per_token"] == max(pool.cost_per_token for pool in ROUTER_INSTANCES.values())


@pytest.mark.parametrize(
    ("role", "may_scale_in"), [("high_performance", True), ("cost_efficient", False), ("batch_processing", False)]
)
def test_by_the_printed_latencies_only_one_pool_can_ever_scale_in(role: str, may_scale_in: bool) -> None:
    assert bool(scaling_policies(0, ROUTER_INSTANCES[role].avg_latency_ms)) is may_scale_in


def test_the_scaling_figures_the_kit_builds_on_are_the_printed_ones() -> None:
    tracking, limits = AUTOSCALING_CONFIG.target_tracking, AUTOSCALING_CONFIG.instance_mix
    assert tracking.target_messages == 10
    assert (tracking.scale_out_cooldown_s, tracking.scale_in_cooldown_s) == (5 * 60, 15 * 60)
    assert (limits.min_on_demand_instances, limits.max_instances, limits.spot_percent) == (1, 10, 70)


@pytest.mark.parametrize(("queue_depth", "backs_off"), [(5, False), (7, False), (10, False), (4, True)])
def test_between_the_two_step_marks_only_target_tracking_is_left(queue_depth: int, backs_off: bool) -> None:
    assert bool(scaling_policies(queue_depth, avg_latency_ms=45)) is backs_off
    assert queue_depth <= AUTOSCALING_CONFIG.target_tracking.target_messages


def test_the_printed_queue_metric_is_not_the_name_aws_gives_it() -> None:
    real_name = "ApproximateNumberOfMessagesVisible"  # namespace AWS/SQS, Amazon SQS developer guide 39de636d
    assert AUTOSCALING_CONFIG.target_tracking.metric == "SQSApproximateNumberOfVisibleMessages"
    assert real_name not in AUTOSCALING_CONFIG.target_tracking.metric


@pytest.mark.parametrize(
    ("instances", "on_demand", "spot"), [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 2, 2), (5, 3, 2), (10, 4, 6)]
)
def test_70_percent_spot_above_a_base_of_one_never_reaches_70_percent(
    instances: int, on_demand: int, spot: int
) -> None:
    limits = AUTOSCALING_CONFIG.instance_mix
    # Auto Scaling rounds a fraction up to on-demand (Amazon EC2 Auto Scaling user guide 6c46a785)
    above_base = ceil((instances - limits.min_on_demand_instances) * (100 - limits.spot_percent) / 100)
    assert limits.spot_percent == 70
    assert (limits.min_on_demand_instances + above_base, instances - limits.min_on_demand_instances - above_base) == (
        on_demand,
        spot,
    )
    assert 100 * spot / instances < 70


def test_int4_is_printed_slower_in_one_place_and_faster_in_another() -> None:
    technique = OPTIMIZATION_TECHNIQUES["quantization int4"]
    assert (technique.performance_percent, technique.performance_positive_means) == (5, "slower")
    after = COST_OPTIMIZATION_CASE_STUDY.after
    assert (after.model, after.instance_type, after.tokens_per_s) == ("llama-7b-int4", "g5.xlarge", 198)
    assert after.tokens_per_s > PERFORMANCE_RESULTS["g5.xlarge", "llama_7b_int8"].tokens_per_s


def test_the_case_studys_quality_is_that_of_int4_alone_and_counts_nothing_for_the_smaller_model() -> None:
    study = COST_OPTIMIZATION_CASE_STUDY
    assert (study.before.model, study.after.model) == ("llama-13b-fp16", "llama-7b-int4")
    assert study.quality_retention_percent == 100 - OPTIMIZATION_TECHNIQUES["quantization int4"].quality_percent == 92


def test_100k_requests_a_day_fill_startup_mvp_at_135_tokens_each() -> None:
    assert VOLUME_BANDS["scaling"].requests_per_day == (100_000, 1_000_000)
    assert DEPLOYMENT_PATTERNS["startup-mvp"].capacity_tokens_per_day / 100_000 == 135


def test_the_volume_bands_and_the_selection_rule_disagree_at_500k_requests_a_day() -> None:
    assert VOLUME_BANDS["scaling"].instance_types == ("g5.12xlarge",)
    assert choose_aws_gpu_instance({"model_params_billion": 13, "requests_per_day": 500_000}) == "g5.xlarge"


def test_the_volume_bands_leave_no_gap_and_do_not_overlap() -> None:
    bands = [band.requests_per_day for band in VOLUME_BANDS.values() if band.requests_per_day]
    assert bands[0][0] == 0
    for (_, highest), (lowest, _) in pairwise(bands):
        assert lowest == (highest or 0) + 1
    assert bands[-1][1] is None


def test_a_million_requests_a_day_stay_in_the_middle_band_as_in_the_selection_rule() -> None:
    assert VOLUME_BANDS["enterprise"].requests_per_day == (1_000_001, None)
    assert choose_aws_gpu_instance({"requests_per_day": 1_000_000}) == "g5.xlarge"
    assert choose_aws_gpu_instance({"requests_per_day": 1_000_001}) == "inf2.48xlarge"
