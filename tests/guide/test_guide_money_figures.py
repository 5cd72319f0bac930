"""Printed prices, costs, months and savings beside their own rule and AWS's figures: A2 to A14, A19 to A34."""

from collections.abc import Mapping

import pytest

from llm_fleet.guide import (
    AVAILABILITY_MAP,
    COST_EFFICIENCY_ANALYSIS,
    COST_OPTIMIZATION_CASE_STUDY,
    DEPLOYMENT_PATTERNS,
    INSTANCE_SPECS,
    PERFORMANCE_RESULTS,
    ROUTER_INSTANCES,
    SPOT_SAVINGS_ACHIEVED,
    USAGE_PATTERN_ANALYSIS,
    calculate_monthly_cost,
    calculate_optimal_instance_mix,
    select_instance_for_model,
    spot_savings_percent,
)

MONTH_H = 730
ARTICLE_MONTH_H = 720
SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86_400


def usd_per_1k_tokens(usd_per_hour: float, tokens_per_s: float) -> float:
    return usd_per_hour / (tokens_per_s * SECONDS_PER_HOUR) * 1000


def usd_per_million_tokens(monthly_usd: float, tokens_per_s: float) -> float:
    return monthly_usd / (tokens_per_s * SECONDS_PER_DAY * 30) * 1e6


@pytest.mark.parametrize(
    ("instance_type", "printed", "rounded"),
    [
        pytest.param("g5.xlarge", 1.01, 1.006, id="g5.xlarge"),
        pytest.param("g5.12xlarge", 5.67, 5.672, id="g5.12xlarge"),
        pytest.param("g5.48xlarge", 16.29, 16.288, id="g5.48xlarge"),
        pytest.param("g4dn.xlarge", 0.526, 0.526, id="g4dn.xlarge"),
        pytest.param("inf2.xlarge", 0.76, 0.7582, id="inf2.xlarge"),
    ],
)
def test_most_printed_prices_are_the_real_ones_rounded(
    instance_type: str, printed: float, rounded: float, aws: Mapping[str, float]
) -> None:
    assert INSTANCE_SPECS[instance_type].usd_per_hour == printed
    assert aws[f"{instance_type} usd_per_hour"] == rounded == pytest.approx(printed, abs=0.005)


def test_p4d_was_printed_right_and_is_a_third_cheaper_now(aws: Mapping[str, float]) -> None:
    then, now = aws["p4d.24xlarge usd_per_hour_2025"], aws["p4d.24xlarge usd_per_hour"]
    assert INSTANCE_SPECS["p4d.24xlarge"].usd_per_hour == 32.77
    assert (then, now) == (32.7726, 21.957642)
    assert 100 * (1 - now / then) == pytest.approx(33.0, abs=0.05)


def test_inf2_48xlarge_costs_43_percent_more_than_printed(aws: Mapping[str, float]) -> None:
    printed, real = INSTANCE_SPECS["inf2.48xlarge"].usd_per_hour, aws["inf2.48xlarge usd_per_hour"]
    assert (printed, real) == (9.09, 12.98127)
    assert 100 * (real / printed - 1) == pytest.approx(42.8, abs=0.05)


def test_the_inf2_48xlarge_price_printed_is_about_twelve_small_ones(aws: Mapping[str, float]) -> None:
    assert INSTANCE_SPECS["inf2.48xlarge"].usd_per_accelerator_hour == 0.76
    assert 12 * aws["inf2.xlarge usd_per_hour"] == pytest.approx(9.09, abs=0.01)
    assert aws["inf2.48xlarge usd_per_hour"] / 12 == pytest.approx(1.08, abs=0.005)


@pytest.mark.parametrize("instance_type", ["p4d.24xlarge", "p3.8xlarge", "g5.xlarge", "g5.12xlarge", "g5.48xlarge"])
def test_prices_per_gpu_are_the_price_divided(instance_type: str) -> None:
    spec = INSTANCE_SPECS[instance_type]
    assert spec.usd_per_hour / spec.accelerator_count == pytest.approx(spec.usd_per_accelerator_hour, abs=0.005)


def test_p3_was_printed_right_is_gone_and_is_still_the_guides_answer(aws: Mapping[str, float]) -> None:
    assert INSTANCE_SPECS["p3.2xlarge"].usd_per_hour == aws["p3.2xlarge usd_per_hour_2025"] == 3.06
    assert INSTANCE_SPECS["p3.8xlarge"].usd_per_hour == aws["p3.8xlarge usd_per_hour_2025"] == 12.24
    assert select_instance_for_model(60, "medium", "moderate") == "p3.8xlarge"
    assert aws["p3.8xlarge zones us-east-1"] == 0


def test_p3_was_never_the_cheap_choice_it_is_printed_as() -> None:
    p3, g5 = INSTANCE_SPECS["p3.2xlarge"], INSTANCE_SPECS["g5.xlarge"]
    assert p3.usd_per_hour / g5.usd_per_hour == pytest.approx(3.03, abs=0.005)
    assert (p3.memory_gb, g5.memory_gb) == (16, 24)


@pytest.mark.parametrize(
    ("instance_type", "label", "usd_per_hour", "printed", "true_usd"),
    [
        pytest.param("p3.2xlarge", "llama_7b", 3.06, 0.0034, 0.000955, id="V100"),
        pytest.param("p4d.24xlarge", "llama_7b", 4.10, 0.0018, 0.000487, id="one of p4d's GPUs"),
        pytest.param("g5.xlarge", "llama_7b_int8", 1.01, 0.0065, 0.001798, id="A10G 7B"),
        pytest.param("g5.xlarge", "llama_13b_int8", 1.01, 0.0138, 0.003843, id="A10G 13B"),
        pytest.param("g4dn.xlarge", "llama_7b", 0.526, 0.0117, 0.003247, id="T4"),
        pytest.param("inf2.xlarge", "llama_7b_compiled", 0.76, 0.00063, 0.000176, id="Inferentia2"),
    ],
)
def test_a_printed_cost_per_1k_tokens_is_3_6_times_the_true_one(
    instance_type: str, label: str, usd_per_hour: float, printed: float, true_usd: float
) -> None:
    result, spec = PERFORMANCE_RESULTS[instance_type, label], INSTANCE_SPECS[instance_type]
    assert usd_per_hour in (spec.usd_per_hour, spec.usd_per_accelerator_hour)
    assert result.cost_per_1k_tokens_usd == printed == pytest.approx(usd_per_hour / result.tokens_per_s, rel=0.03)
    assert usd_per_1k_tokens(usd_per_hour, result.tokens_per_s) == pytest.approx(true_usd, abs=5e-7)
    assert usd_per_hour / result.tokens_per_s == pytest.approx(
        3.6 * usd_per_1k_tokens(usd_per_hour, result.tokens_per_s)
    )


def test_by_the_articles_own_numbers_a_v100_beats_the_p4d_one_can_rent() -> None:
    assert PERFORMANCE_RESULTS["p4d.24xlarge", "llama_7b"].cost_per_1k_tokens_usd == 0.0018
    assert usd_per_1k_tokens(32.77, 2340) == pytest.approx(0.003890, abs=5e-7)
    assert usd_per_1k_tokens(3.06, 890) < usd_per_1k_tokens(32.77, 2340)


def test_inferentia_is_65_percent_cheaper_by_the_printed_costs_where_60_is_claimed() -> None:
    printed = {key: result.cost_per_1k_tokens_usd for key, result in PERFORMANCE_RESULTS.items()}
    inferentia, a100 = 0.00063, 0.0018
    assert printed["inf2.xlarge", "llama_7b_compiled"] == inferentia
    assert printed["p4d.24xlarge", "llama_7b"] == a100
    assert 100 * (1 - inferentia / a100) == pytest.approx(65)


def test_aws_measures_inferentia_at_28_times_the_cost_the_article_implies(aws: Mapping[str, float]) -> None:
    implied = 1000 * usd_per_1k_tokens(0.76, PERFORMANCE_RESULTS["inf2.xlarge", "llama_7b_compiled"].tokens_per_s)
    measured = 1000 * usd_per_1k_tokens(
        aws["inf2.48xlarge usd_per_hour"], aws["Llama-2-7B on inf2.48xlarge batch 8 tokens_per_s"]
    )
    assert implied == pytest.approx(0.176, abs=0.0005)
    assert measured == pytest.approx(4.97, abs=0.005)
    assert measured / implied == pytest.approx(28, abs=0.5)


@pytest.mark.parametrize(
    ("instance_type", "printed", "true_tokens_per_usd"),
    [
        pytest.param("p4d.24xlarge", 71.4, 257_064, id="p4d.24xlarge"),
        pytest.param("g5.xlarge", 154.5, 556_040, id="g5.xlarge"),
        pytest.param("inf2.xlarge", 1578.9, 5_684_211, id="inf2.xlarge"),
    ],
)
def test_printed_tokens_per_dollar_lack_the_3600_seconds_of_an_hour(
    instance_type: str, printed: float, true_tokens_per_usd: int
) -> None:
    row = COST_EFFICIENCY_ANALYSIS[instance_type]
    assert row.tokens_per_s_per_usd_per_hour == printed == pytest.approx(row.tokens_per_s / row.usd_per_hour, abs=0.06)
    assert row.tokens_per_s * SECONDS_PER_HOUR / row.usd_per_hour == pytest.approx(true_tokens_per_usd, abs=0.5)


def test_p4d_beats_g5_if_its_printed_rate_is_that_of_one_gpu() -> None:
    p4d, g5 = COST_EFFICIENCY_ANALYSIS["p4d.24xlarge"], COST_EFFICIENCY_ANALYSIS["g5.xlarge"]
    assert p4d.tokens_per_s_per_usd_per_hour < g5.tokens_per_s_per_usd_per_hour
    assert 8 * p4d.tokens_per_s * SECONDS_PER_HOUR / p4d.usd_per_hour == pytest.approx(2_056_515, abs=0.5)
    assert 8 * p4d.tokens_per_s / p4d.usd_per_hour > g5.tokens_per_s / g5.usd_per_hour


@pytest.mark.parametrize(
    ("instance_type", "monthly_usd", "utilization_percent"),
    [("p4d.24xlarge", 23_594.40, 0.49), ("g5.xlarge", 727.20, 7.42), ("inf2.xlarge", 547.20, 0.96)],
)
def test_the_monthly_cost_rule_prices_one_instance_for_720_h_whatever_the_load(
    instance_type: str, monthly_usd: float, utilization_percent: float
) -> None:
    at_a_million, at_a_billion = (calculate_monthly_cost(tokens, instance_type) for tokens in (1_000_000, 10**9))
    assert at_a_million["monthly_cost"] == at_a_billion["monthly_cost"] == pytest.approx(monthly_usd)
    assert at_a_million["monthly_cost"] / COST_EFFICIENCY_ANALYSIS[instance_type].usd_per_hour == pytest.approx(
        ARTICLE_MONTH_H
    )
    assert 100 * at_a_million["utilization"] == pytest.approx(utilization_percent, abs=0.005)
    assert at_a_billion["utilization"] > 1


@pytest.mark.parametrize(
    ("pattern", "printed_usd", "usd_720_h", "usd_730_h", "usd_730_h_on_aws"),
    [
        pytest.param("startup-mvp", 742, 727.20, 737.30, 734.38, id="startup-mvp"),
        pytest.param("scaling-startup", 4163, 4082.40, 4139.10, 4140.56, id="scaling-startup"),
        pytest.param("enterprise-production", 24075, 23_594.40, 23_922.10, 16_029.08, id="enterprise-production"),
        pytest.param("cost-optimized-scale", 6678, 6544.80, 6635.70, 9476.33, id="cost-optimized-scale"),
    ],
)
def test_a_printed_month_is_neither_720_nor_730_hours(
    pattern: str,
    printed_usd: int,
    usd_720_h: float,
    usd_730_h: float,
    usd_730_h_on_aws: float,
    aws: Mapping[str, float],
) -> None:
    instance_type = DEPLOYMENT_PATTERNS[pattern].instance_type
    usd_per_hour = INSTANCE_SPECS[instance_type].usd_per_hour
    assert DEPLOYMENT_PATTERNS[pattern].monthly_usd == printed_usd
    assert printed_usd / usd_per_hour == pytest.approx(734.5, abs=0.3)
    assert usd_per_hour * ARTICLE_MONTH_H == pytest.approx(usd_720_h)
    assert usd_per_hour * MONTH_H == pytest.approx(usd_730_h)
    assert aws[f"{instance_type} usd_per_hour"] * MONTH_H == pytest.approx(usd_730_h_on_aws, abs=0.005)


@pytest.mark.parametrize(
    ("pattern", "usd_per_million"),
    [
        ("startup-mvp", 1.83),
        ("scaling-startup", 5.55),
        ("enterprise-production", 3.49),
        ("cost-optimized-scale", 0.49),
    ],
)
def test_printed_months_and_capacities_imply_a_cost_per_million_tokens(pattern: str, usd_per_million: float) -> None:
    printed = DEPLOYMENT_PATTERNS[pattern]
    tokens_per_s = printed.capacity_tokens_per_day / SECONDS_PER_DAY
    assert usd_per_million_tokens(printed.monthly_usd, tokens_per_s) == pytest.approx(usd_per_million, abs=0.005)


def test_printed_spot_savings_contradict_the_range_printed_for_the_region() -> None:
    assert AVAILABILITY_MAP["us-east-1"].spot_savings_percent == (30, 70)
    assert SPOT_SAVINGS_ACHIEVED["g5.xlarge"].maximum_percent == 85
    assert SPOT_SAVINGS_ACHIEVED["g4dn.xlarge"].maximum_percent == 90


@pytest.mark.parametrize(
    ("instance_type", "edge", "printed_percent", "spot_percent"),
    [
        pytest.param("g5.xlarge", "lowest", 65, 57.0, id="g5.xlarge at its cheapest zone misses the printed average"),
        pytest.param("g4dn.xlarge", "lowest", 70, 59.5, id="g4dn.xlarge at its cheapest zone misses it too"),
        pytest.param("p4d.24xlarge", "highest", 45, 36.3, id="p4d at its dearest zone lies below the printed average"),
    ],
)
def test_a_printed_average_spot_saving_is_not_what_a_zone_gives(
    instance_type: str, edge: str, printed_percent: int, spot_percent: float, aws: Mapping[str, float]
) -> None:
    saved = spot_savings_percent(
        aws[f"{instance_type} usd_per_hour"], aws[f"{instance_type} spot_usd_per_hour {edge} us-east-1"]
    )
    assert SPOT_SAVINGS_ACHIEVED[instance_type].average_percent == printed_percent
    assert saved == pytest.approx(spot_percent, abs=0.05)
    assert saved < printed_percent


def test_spot_in_us_west_2_leaves_the_range_printed_for_it(aws: Mapping[str, float]) -> None:
    assert AVAILABILITY_MAP["us-west-2"].spot_savings_percent == (20, 60)
    dearest_zone = aws["inf2.xlarge spot_usd_per_hour highest us-west-2"]
    assert spot_savings_percent(aws["inf2.xlarge usd_per_hour"], dearest_zone) == pytest.approx(81.7, abs=0.05)


def test_the_routers_costs_per_token_stand_in_three_scales() -> None:
    high, default, batch = (
        ROUTER_INSTANCES[role].cost_per_token for role in ("high_performance", "cost_efficient", "batch_processing")
    )
    a100, a10g, inferentia = 4.10 / 2340, 0.0065, 0.00063  # A6, A9, A14, each 3.6 times a price per 1000 tokens
    assert (high, high / a100) == (0.00175, pytest.approx(1, rel=0.01))
    assert (default, default / a10g) == (0.00065, pytest.approx(1 / 10))
    assert (batch, batch / inferentia) == (0.00032, pytest.approx(1 / 2, rel=0.02))
    assert usd_per_1k_tokens(4.10, 2340) / 1000 == pytest.approx(4.87e-7, abs=5e-10)


def test_saving_40_percent_needs_64_percent_of_the_tokens_moved_to_the_default_pool() -> None:
    high, default = (
        ROUTER_INSTANCES["high_performance"].cost_per_token,
        ROUTER_INSTANCES["cost_efficient"].cost_per_token,
    )
    assert 100 * 0.40 * high / (high - default) == pytest.approx(63.6, abs=0.05)


def test_the_chatbots_60_percent_come_from_its_schedule_alone() -> None:
    chatbot = USAGE_PATTERN_ANALYSIS["customer_support_chatbot"]
    assert chatbot.cost_savings_percent == 60
    assert (chatbot.peak_hours, chatbot.off_peak_reduction_percent) == ((9, 17), 85)
    every_day = (8 + 16 * 0.15) / 24
    quiet_weekends = (5 * (8 + 16 * 0.15) + 2 * 24 * 0.15) / (7 * 24)
    assert 100 * (1 - every_day) == pytest.approx(56.7, abs=0.05)
    assert 100 * (1 - quiet_weekends) == pytest.approx(64.8, abs=0.05)


def test_batch_work_is_printed_as_spot_only_in_one_place_and_with_on_demand_in_another() -> None:
    content, batch = USAGE_PATTERN_ANALYSIS["content_generation"], calculate_optimal_instance_mix({"pattern": "batch"})
    assert (content.strategy, content.cost_savings_percent) == (("spot only",), 70)
    assert (batch["on_demand"], batch["spot"], batch["expected_savings"]) == (10, 90, 65)


@pytest.mark.parametrize(
    ("peak_variation", "expected_percent", "reserved_percent"),
    [pytest.param(4, 45, 41.7, id="variable load"), pytest.param(1, 35, 40.7, id="steady load")],
)
def test_expected_savings_need_a_deeper_reservation_than_a_year_without_upfront_gives(
    peak_variation: float, expected_percent: int, reserved_percent: float, aws: Mapping[str, float]
) -> None:
    mix = calculate_optimal_instance_mix({"pattern": "steady", "peak_variation": peak_variation})
    needed = (mix["expected_savings"] - mix["spot"] * 0.65) / mix["reserved"]
    given = 1 - aws["g5.xlarge reserved_usd_per_hour"] / aws["g5.xlarge usd_per_hour"]
    assert mix["expected_savings"] == expected_percent
    assert 100 * needed == pytest.approx(reserved_percent, abs=0.05)
    assert 100 * given == pytest.approx(37.0, abs=0.05)


def test_the_savings_expected_of_batch_need_72_percent_off_on_spot() -> None:
    mix = calculate_optimal_instance_mix({"pattern": "batch"})
    assert 100 * mix["expected_savings"] / mix["spot"] == pytest.approx(72.2, abs=0.05)
    assert SPOT_SAVINGS_ACHIEVED["g5.xlarge"].average_percent == 65


def test_the_case_studys_first_month_is_longer_than_720_and_730_hours() -> None:
    before = COST_OPTIMIZATION_CASE_STUDY.before
    assert before.monthly_usd == 8976
    assert INSTANCE_SPECS[before.instance_type].usd_per_hour * ARTICLE_MONTH_H == pytest.approx(8812.80)
    assert INSTANCE_SPECS[before.instance_type].usd_per_hour * MONTH_H == pytest.approx(8935.20)


def test_the_case_studys_last_month_is_the_one_printed_for_startup_mvp() -> None:
    after, startup_mvp = COST_OPTIMIZATION_CASE_STUDY.after, DEPLOYMENT_PATTERNS["startup-mvp"]
    assert after.monthly_usd == startup_mvp.monthly_usd == 742
    assert after.instance_type == startup_mvp.instance_type


def test_the_case_studys_percentages_round_their_own_figures() -> None:
    study = COST_OPTIMIZATION_CASE_STUDY
    assert (study.cost_reduction_percent, study.performance_improvement_percent) == (92, 37)
    assert 100 * (1 - study.after.monthly_usd / study.before.monthly_usd) == pytest.approx(91.7, abs=0.05)
    assert 100 * (study.after.tokens_per_s / study.before.tokens_per_s - 1) == pytest.approx(36.6, abs=0.05)


def test_the_case_study_saves_94_percent_per_token_where_92_is_printed() -> None:
    before, after = (
        usd_per_million_tokens(side.monthly_usd, side.tokens_per_s)
        for side in (COST_OPTIMIZATION_CASE_STUDY.before, COST_OPTIMIZATION_CASE_STUDY.after)
    )
    assert (before, after) == (pytest.approx(23.88, abs=0.005), pytest.approx(1.45, abs=0.005))
    assert 100 * (1 - after / before) == pytest.approx(93.9, abs=0.05)
