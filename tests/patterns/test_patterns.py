"""Pattern files: found by name or path, checked against one published schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from llm_fleet.documents import CONFIGS
from llm_fleet.errors import InputError
from llm_fleet.patterns import Pattern, load_pattern, parse_overrides, pattern_names
from llm_fleet.patterns.overrides import parse_assignments
from llm_fleet.planning import plan_json_schema


def test_the_published_pattern_schema_is_the_one_that_checks() -> None:
    assert json.loads((CONFIGS / "schemas" / "pattern.json").read_text()) == Pattern.model_json_schema()


def test_the_published_plan_schema_is_the_one_that_plans_follow() -> None:
    assert json.loads((CONFIGS / "schemas" / "plan.json").read_text()) == plan_json_schema()


@pytest.mark.parametrize("name", pattern_names())
def test_a_shipped_pattern_follows_the_published_schema_and_is_named_as_its_file(name: str) -> None:
    data = yaml.safe_load((CONFIGS / "patterns" / f"{name}.yaml").read_text())
    jsonschema.validate(data, json.loads((CONFIGS / "schemas" / "pattern.json").read_text()))
    assert load_pattern(name).pattern.name == name


@pytest.mark.parametrize(
    ("name", "model", "precision", "instance_type"),
    [
        ("startup-mvp", "Llama-2-7b", "int8", "g5.xlarge"),
        ("scaling-startup", "Llama-2-13b", "fp16", "g5.12xlarge"),
        ("enterprise-production", "Llama-2-70b", "fp16", "p4d.24xlarge"),
        ("cost-optimized-scale", "Llama-2-13b", "fp16", "inf2.48xlarge"),
    ],
)
def test_the_patterns_have_the_articles_models_and_types(
    name: str, model: str, precision: str, instance_type: str
) -> None:
    pattern = load_pattern(name).pattern
    assert model in pattern.model
    assert (pattern.precision, pattern.article_instance_type) == (precision, instance_type)


@pytest.mark.parametrize("name", pattern_names())
def test_every_pool_has_the_articles_scaling_numbers(name: str) -> None:
    for pool in load_pattern(name).pattern.pools.values():
        rules = pool.scaling
        assert (rules.target_backlog, rules.step_out_above, rules.step_in_below) == (10, 50, 5)
        assert (rules.step_out_instances, rules.step_in_instances, rules.max_instances) == (2, 1, 10)
        assert (rules.step_in_ttft_ms, rules.step_in_minutes) == (100, 15)


def test_the_line_of_a_mistake_points_at_its_key(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text((CONFIGS / "patterns" / "startup-mvp.yaml").read_text().replace("tpot_ms: 100", "tpot_ms: -4"))
    with pytest.raises(InputError) as caught:
        load_pattern(str(path))
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "tpot_ms: -4" in text)
    assert f"{path}:{line} pools.cost_efficient.marks.tpot_ms" in str(caught.value)


def test_overrides_are_kept_as_they_will_be_shown() -> None:
    given = parse_assignments(["purchase=spot", "instance_families=g5, g6e", "max_instances=3"])
    assert parse_overrides(given).as_text() == {
        "instance_families": "g5,g6e",
        "max_instances": "3",
        "purchase": "spot",
    }


def test_the_last_of_two_equal_overrides_wins_as_with_cdk() -> None:
    assert parse_assignments(["model=a", "model=b"]) == {"model": "b"}
