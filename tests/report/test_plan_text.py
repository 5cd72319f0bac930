"""The plan as text: what a reader must find in it."""

from __future__ import annotations

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from llm_fleet.report import plan_text, table


@pytest.mark.parametrize("name", pattern_names())
def test_a_reader_finds_choices_reasons_money_and_cautions(name: str) -> None:
    plan = plan_fleet(name)
    text = plan_text(plan)
    assert plan.fingerprint()[:12] in text
    for pool in plan.pools:
        assert pool.headline in text
        assert all(choice.instance_type in text for choice in pool.choices)
    assert "instances only" in text
    assert all(warning in text for warning in plan.warnings)


def test_every_rejected_type_is_listed_on_demand() -> None:
    plan = plan_fleet("startup-mvp")
    text = plan_text(plan, every_type=True)
    assert all(item.instance_type in text for item in plan.pools[0].rejected)


def test_the_articles_p4d_is_shown_with_its_real_memory() -> None:
    assert "p4d.24xlarge (8 x 40 GiB usable)" in plan_text(plan_fleet("enterprise-production"))


def test_a_table_sets_numbers_right_and_words_left() -> None:
    assert table(("name", "n"), [("a", "10"), ("bcd", "5")], indent="") == "name   n\na     10\nbcd    5"
