"""Printed memory beside what AWS reports and what the article's memory rule gives: A2 to A18, A33, A36."""

from collections.abc import Mapping

import pytest

from llm_fleet.guide import (
    INSTANCE_SPECS,
    MEMORY_REQUIREMENTS_GB,
    OPTIMIZATION_TECHNIQUES,
    PERFORMANCE_RESULTS,
    choose_aws_gpu_instance,
    estimate_gpu_memory_requirements,
    select_instance_for_model,
)

MIB_PER_GIB = 1024


def weights_gib(params_billion: float, precision: str) -> float:
    return estimate_gpu_memory_requirements(params_billion, precision, safety_margin=1)


def kv_cache_gib(layers: int, kv_width: int, batch_size: int, context_tokens: int = 2048) -> float:
    """Keys and values in fp16; kv_width = KV heads x head size, as in the Llama-2 configurations."""
    return 2 * layers * kv_width * 2 * batch_size * context_tokens / 2**30


def test_p4d_is_printed_with_twice_the_memory_it_has(aws: Mapping[str, float]) -> None:
    assert INSTANCE_SPECS["p4d.24xlarge"].memory_gb == 640
    assert 8 * aws["p4d.24xlarge mib_per_accelerator"] / MIB_PER_GIB == 320
    assert 8 * aws["p4de.24xlarge mib_per_accelerator"] / MIB_PER_GIB == 640


def test_the_bandwidth_printed_for_p4d_is_that_of_the_40_gb_card(aws: Mapping[str, float]) -> None:
    assert INSTANCE_SPECS["p4d.24xlarge"].accelerator == "A100 80GB"
    assert INSTANCE_SPECS["p4d.24xlarge"].memory_bandwidth_gb_per_s == aws["A100 40 GB bandwidth_gb_per_s"] == 1555
    assert aws["A100 80 GB bandwidth_gb_per_s"] == 2039


@pytest.mark.parametrize(
    ("label", "params_billion", "kv_cache", "printed_gb", "weights", "weights_and_cache"),
    [
        pytest.param("llama_7b", 7, kv_cache_gib(32, 32 * 128, 16), 14.2, 13.04, 29.0, id="7B leaves out the cache"),
        pytest.param("llama_13b", 13, kv_cache_gib(40, 40 * 128, 8), 26.8, 24.21, 36.7, id="13B leaves out the cache"),
        pytest.param("llama_70b", 70, kv_cache_gib(80, 8 * 128, 1), 560, 130.39, 131.0, id="70B is 4.3 x too high"),
    ],
)
def test_memory_printed_for_p4d_is_not_weights_and_cache(
    label: str, params_billion: int, kv_cache: float, printed_gb: float, weights: float, weights_and_cache: float
) -> None:
    assert PERFORMANCE_RESULTS["p4d.24xlarge", label].memory_usage_gb == printed_gb
    assert weights_gib(params_billion, "fp16") == pytest.approx(weights, abs=0.005)
    assert weights_gib(params_billion, "fp16") + kv_cache == pytest.approx(weights_and_cache, abs=0.05)


def test_the_70b_memory_printed_for_p4d_cannot_exist_on_it(aws: Mapping[str, float]) -> None:
    assert PERFORMANCE_RESULTS["p4d.24xlarge", "llama_70b"].memory_usage_gb == 560
    assert 8 * aws["p4d.24xlarge mib_per_accelerator"] / MIB_PER_GIB == 320
    assert estimate_gpu_memory_requirements(70) == pytest.approx(195.58, abs=0.005)


@pytest.mark.parametrize("instance_type", INSTANCE_SPECS)
def test_printed_counts_of_accelerators_are_right(instance_type: str, aws: Mapping[str, float]) -> None:
    assert INSTANCE_SPECS[instance_type].accelerator_count == aws[f"{instance_type} accelerators"]


@pytest.mark.parametrize("instance_type", ["p3.2xlarge", "p3.8xlarge", "g4dn.xlarge", "inf2.xlarge", "inf2.48xlarge"])
def test_printed_memory_is_right_where_the_card_is_the_one_aws_rents(
    instance_type: str, aws: Mapping[str, float]
) -> None:
    spec = INSTANCE_SPECS[instance_type]
    assert spec.memory_gb == spec.accelerator_count * aws[f"{instance_type} mib_per_accelerator"] / MIB_PER_GIB


@pytest.mark.parametrize(
    ("instance_type", "card"), [("p3.2xlarge", "V100 16 GB"), ("g5.xlarge", "A10G"), ("g4dn.xlarge", "T4")]
)
def test_other_printed_bandwidths_are_right(instance_type: str, card: str, aws: Mapping[str, float]) -> None:
    assert INSTANCE_SPECS[instance_type].memory_bandwidth_gb_per_s == aws[f"{card} bandwidth_gb_per_s"]


def test_the_rest_of_p4d_is_printed_right(aws: Mapping[str, float]) -> None:
    p4d = INSTANCE_SPECS["p4d.24xlarge"]
    assert (p4d.vcpus, p4d.ram_gb, p4d.network_gbps) == (96, 1152, 400)
    assert (p4d.vcpus, p4d.ram_gb) == (aws["p4d.24xlarge vcpus"], aws["p4d.24xlarge ram_gib"])
    assert p4d.network_gbps == aws["p4d.24xlarge network_gbps"]


@pytest.mark.parametrize(
    ("instance_type", "printed_gb", "real_gib"), [("g5.12xlarge", 96, 89.4), ("g5.48xlarge", 192, 178.8)]
)
def test_larger_g5_types_are_printed_with_as_much_too_much(
    instance_type: str, printed_gb: int, real_gib: float, aws: Mapping[str, float]
) -> None:
    spec = INSTANCE_SPECS[instance_type]
    assert spec.memory_gb == printed_gb
    assert spec.accelerator_count * aws["g5.xlarge mib_per_accelerator"] / MIB_PER_GIB == pytest.approx(
        real_gib, abs=0.05
    )


def test_an_a10g_is_printed_with_more_memory_than_aws_reports(aws: Mapping[str, float]) -> None:
    assert INSTANCE_SPECS["g5.xlarge"].memory_gb == 24
    assert aws["g5.xlarge mib_per_accelerator"] / MIB_PER_GIB == pytest.approx(22.35, abs=0.005)


@pytest.mark.parametrize(
    ("label", "params_billion", "printed_gb", "weights", "by_the_rule"),
    [
        pytest.param("llama_7b_int8", 7, 8.3, 6.52, 9.78, id="7B int8"),
        pytest.param("llama_13b_int8", 13, 15.7, 12.11, 18.16, id="13B int8"),
    ],
)
def test_memory_printed_for_g5_is_neither_the_weights_nor_the_rule(
    label: str, params_billion: int, printed_gb: float, weights: float, by_the_rule: float
) -> None:
    assert PERFORMANCE_RESULTS["g5.xlarge", label].memory_usage_gb == printed_gb
    assert weights_gib(params_billion, "int8") == pytest.approx(weights, abs=0.005)
    assert estimate_gpu_memory_requirements(params_billion, "int8") == pytest.approx(by_the_rule, abs=0.005)


def test_a_t4_with_7b_in_fp16_has_under_3_gib_left_for_the_cache() -> None:
    assert PERFORMANCE_RESULTS["g4dn.xlarge", "llama_7b"].memory_usage_gb == 14.1
    assert INSTANCE_SPECS["g4dn.xlarge"].memory_gb - weights_gib(7, "fp16") == pytest.approx(2.96, abs=0.005)


@pytest.mark.parametrize(
    ("params_billion", "precision", "printed_gb", "computed_gib"),
    [
        pytest.param(7, "fp16", 21, 19.56, id="7B fp16"),
        pytest.param(13, "fp16", 39, 36.32, id="13B fp16"),
        pytest.param(70, "fp16", 210, 195.58, id="70B fp16"),
        pytest.param(7, "int8", 10.5, 9.78, id="7B int8"),
    ],
)
def test_printed_memory_needs_are_decimal_while_the_rule_gives_gib(
    params_billion: int, precision: str, printed_gb: float, computed_gib: float
) -> None:
    computed = estimate_gpu_memory_requirements(params_billion, precision)
    assert MEMORY_REQUIREMENTS_GB[params_billion, precision] == printed_gb
    assert computed == pytest.approx(computed_gib, abs=0.005)
    assert computed * 2**30 / 1e9 == pytest.approx(printed_gb)


def test_a_need_of_24_gb_is_sent_to_a_card_that_holds_less(aws: Mapping[str, float]) -> None:
    assert select_instance_for_model(24, "medium", "moderate") == "g5.xlarge"
    assert aws["g5.xlarge mib_per_accelerator"] / MIB_PER_GIB < 24


def test_g5_12xlarge_is_given_up_at_48_gb_though_it_holds_89(aws: Mapping[str, float]) -> None:
    assert select_instance_for_model(48, "medium", "moderate") == "g5.12xlarge"
    assert select_instance_for_model(48.01, "medium", "moderate") == "p3.8xlarge"
    assert 4 * aws["g5.12xlarge mib_per_accelerator"] / MIB_PER_GIB == pytest.approx(89.4, abs=0.05)


def test_80_gb_is_sent_to_p3_8xlarge_which_holds_64() -> None:
    assert select_instance_for_model(80, "medium", "moderate") == "p3.8xlarge"
    assert INSTANCE_SPECS["p3.8xlarge"].memory_gb == 64


@pytest.mark.parametrize(
    ("performance_target", "budget_constraint"), [("high", "moderate"), ("medium", "tight"), ("low", "flexible")]
)
def test_80_gb_is_sent_to_g5_xlarge_which_holds_24(performance_target: str, budget_constraint: str) -> None:
    assert select_instance_for_model(80, performance_target, budget_constraint) == "g5.xlarge"
    assert INSTANCE_SPECS["g5.xlarge"].memory_gb == 24


def test_the_single_a100_for_80_gb_holds_40(aws: Mapping[str, float]) -> None:
    assert select_instance_for_model(80, "high", "flexible") == "p4d.24xlarge"
    assert aws["p4d.24xlarge mib_per_accelerator"] / MIB_PER_GIB == 40


def test_13b_in_fp16_does_not_fit_the_g5_xlarge_chosen_for_it(aws: Mapping[str, float]) -> None:
    assert choose_aws_gpu_instance({"model_params_billion": 13}) == "g5.xlarge"
    assert estimate_gpu_memory_requirements(13) == pytest.approx(36.32, abs=0.005)
    assert weights_gib(13, "fp16") > aws["g5.xlarge mib_per_accelerator"] / MIB_PER_GIB


def test_on_a_minimal_budget_a_bigger_model_gets_a_smaller_and_cheaper_gpu(aws: Mapping[str, float]) -> None:
    assert choose_aws_gpu_instance({"model_params_billion": 7, "budget_level": "minimal"}) == "g5.xlarge"
    assert choose_aws_gpu_instance({"model_params_billion": 13, "budget_level": "minimal"}) == "g4dn.2xlarge"
    assert aws["g4dn.2xlarge accelerators"] == 1
    assert aws["g4dn.2xlarge mib_per_accelerator"] < aws["g5.xlarge mib_per_accelerator"]
    assert aws["g4dn.2xlarge usd_per_hour"] < aws["g5.xlarge usd_per_hour"]


@pytest.mark.parametrize(("params_billion", "precision", "needed_gib"), [(13, "int8", 18.16), (30, "int4", 20.95)])
def test_g4dn_2xlarge_does_not_hold_what_a_minimal_budget_sends_to_it(
    params_billion: int, precision: str, needed_gib: float, aws: Mapping[str, float]
) -> None:
    assert (
        choose_aws_gpu_instance({"model_params_billion": params_billion, "budget_level": "minimal"}) == "g4dn.2xlarge"
    )
    assert estimate_gpu_memory_requirements(params_billion, precision) == pytest.approx(needed_gib, abs=0.005)
    assert aws["g4dn.2xlarge mib_per_accelerator"] / MIB_PER_GIB == 16


def test_405b_gets_the_same_instance_as_70b_and_does_not_fit(aws: Mapping[str, float]) -> None:
    assert choose_aws_gpu_instance({"model_params_billion": 70}) == "p4d.24xlarge"
    assert choose_aws_gpu_instance({"model_params_billion": 405}) == "p4d.24xlarge"
    assert weights_gib(405, "fp16") == pytest.approx(754.4, abs=0.05)
    assert 8 * aws["p4d.24xlarge mib_per_accelerator"] / MIB_PER_GIB == 320


def test_the_two_selection_rules_disagree_on_30b_in_fp16() -> None:
    needed_gib = estimate_gpu_memory_requirements(30)
    assert needed_gib == pytest.approx(83.8, abs=0.05)
    assert select_instance_for_model(needed_gib, "medium", "moderate") == "p4d.24xlarge"
    assert choose_aws_gpu_instance({"model_params_billion": 30}) == "g5.12xlarge"


def test_quantisation_saves_what_its_bytes_say() -> None:
    assert OPTIMIZATION_TECHNIQUES["quantization int8"].memory_reduction_percent == 50
    assert OPTIMIZATION_TECHNIQUES["quantization int4"].memory_reduction_percent == 75
    assert 1 - weights_gib(7, "int8") / weights_gib(7, "fp16") == 0.50
    assert 1 - weights_gib(7, "int4") / weights_gib(7, "fp16") == 0.75


def test_distilling_7b_to_3b_saves_57_percent_of_memory_by_its_parameters_not_55() -> None:
    assert OPTIMIZATION_TECHNIQUES["distillation 7b to 3b"].memory_reduction_percent == 55
    assert 100 * (1 - weights_gib(3, "fp16") / weights_gib(7, "fp16")) == pytest.approx(57.1, abs=0.05)
