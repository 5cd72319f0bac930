"""The routing rule is the article's: every recorded case of its router gives the same role."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet import guide
from llm_fleet.routing import LONG_REQUEST_TOKENS, SERVICE_TIERS, RouteRequest, asked_role

with (Path(__file__).parents[1] / "data" / "article_rules_cases.csv").open(encoding="utf-8", newline="") as file:
    CASES = [row for row in csv.DictReader(file) if row["function"] == "route_request" and row["kind"] == "value"]


def request(facts: dict[str, Any]) -> RouteRequest:
    """Where a case leaves a fact out, the article never reads it: any value will do."""
    return RouteRequest("a-model", facts["priority"], facts.get("budget", "strict"), facts.get("tokens", 0))


def test_there_are_cases() -> None:
    assert len(CASES) > 50


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
def test_the_role_is_the_one_that_the_article_gives(case: dict[str, str]) -> None:
    facts = json.loads(case["inputs"])
    role, _ = asked_role(request(facts))
    assert role == json.loads(case["expected"])["role"]


@given(
    st.fixed_dictionaries(
        {
            "priority": st.sampled_from(["realtime", "default", "batch"]),
            "budget": st.sampled_from(["flexible", "moderate", "strict"]),
            "tokens": st.integers(min_value=0, max_value=200_000),
        }
    )
)
def test_the_role_is_the_guides_for_any_request(facts: dict[str, Any]) -> None:
    role, _ = asked_role(request(facts))
    assert role == guide.route_request(cast("Any", SimpleNamespace(**facts)))["role"]


@pytest.mark.parametrize(
    ("tier", "tokens", "role", "condition"),
    [
        ("priority", 10, "high_performance", "realtime-flexible"),
        ("default", 10, "cost_efficient", "default"),
        ("auto", 10, "cost_efficient", "default"),
        ("flex", 10, "batch_processing", "batch"),
        ("flex", LONG_REQUEST_TOKENS + 1, "high_performance", "over-2048-tokens"),
    ],
)
def test_each_service_tier_of_openai_has_its_role(tier: str, tokens: int, role: str, condition: str) -> None:
    priority, budget = SERVICE_TIERS[tier]
    assert asked_role(RouteRequest("a-model", priority, budget, tokens)) == (role, condition)
