"""Every recorded case of the article's rules: inputs and results as the article's own code gives them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llm_fleet import guide

CASES_CSV = Path(__file__).parents[1] / "data" / "article_rules_cases.csv"
ERRORS = {
    "KeyError": KeyError,
    "TypeError": TypeError,
    "AttributeError": AttributeError,
    "ZeroDivisionError": ZeroDivisionError,
}


def with_mapping(rule: Callable[..., object]) -> Callable[[dict[str, Any]], object]:
    return rule


def with_object(rule: Callable[..., object]) -> Callable[[dict[str, Any]], object]:
    return lambda inputs: rule(SimpleNamespace(**inputs))


def with_arguments(rule: Callable[..., object]) -> Callable[[dict[str, Any]], object]:
    return lambda inputs: rule(**inputs)


RULES = {
    "calculate_monthly_cost": with_arguments(guide.calculate_monthly_cost),
    "calculate_optimal_instance_mix": with_mapping(guide.calculate_optimal_instance_mix),
    "choose_aws_gpu_instance": with_mapping(guide.choose_aws_gpu_instance),
    "estimate_gpu_memory_requirements": with_arguments(guide.estimate_gpu_memory_requirements),
    "route_request": with_object(guide.route_request),
    "scaling_policies": with_arguments(guide.scaling_policies),
    "select_instance_for_model": with_arguments(guide.select_instance_for_model),
    "spot_savings_percent": with_arguments(guide.spot_savings_percent),
}


def read_cases() -> list[dict[str, str]]:
    with CASES_CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cases_of(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["kind"] == kind]


def close_to(expected: Any) -> Any:
    """The expected value with its floats at relative 1e-9; all other values, and the shape, must be equal."""
    if isinstance(expected, float):
        return pytest.approx(expected, rel=1e-9, abs=0)
    if isinstance(expected, dict):
        return {key: close_to(value) for key, value in cast("dict[str, Any]", expected).items()}
    return expected


CASES = read_cases()


@pytest.mark.parametrize("case", cases_of("value"))
def test_a_rule_answers_as_the_article_does(case: dict[str, str]) -> None:
    result = RULES[case["function"]](json.loads(case["inputs"]))
    assert result == close_to(json.loads(case["expected"]))


@pytest.mark.parametrize("case", cases_of("error"))
def test_a_rule_fails_as_the_article_does(case: dict[str, str]) -> None:
    expected = json.loads(case["expected"])
    with pytest.raises(ERRORS[expected["error"]]) as raised:
        RULES[case["function"]](json.loads(case["inputs"]))
    assert expected["detail"] in str(raised.value)


def test_no_case_is_left_out() -> None:
    assert len(CASES) == 571
    assert len({case["id"] for case in CASES}) == 571
    assert {case["kind"] for case in CASES} == {"value", "error"}
    assert {case["function"] for case in CASES} == set(RULES)
