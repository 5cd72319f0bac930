"""What `llm-fleet catalog` prints."""

import pytest

from llm_fleet.cli.catalog import show, verify_text
from llm_fleet.errors import InputError


def test_one_type_shows_each_fact_with_its_source() -> None:
    lines = show("g6e.12xlarge", "us-east-1").splitlines()
    assert any("on-demand" in line and "10.4926 USD/h" in line and "karpenter, 2026-07-20" in line for line in lines)
    assert any("its usable memory" in line and "44.99 GiB" in line and "nvidia-smi" in line for line in lines)
    assert any(line.startswith("  karpenter: ") and "aws/karpenter-provider-aws" in line for line in lines)


def test_a_retired_type_shows_when_it_left_and_its_successor() -> None:
    text = show("p3.8xlarge", "us-east-1")
    assert "Left the EC2 offerings between 2026-04-01 and 2026-05-01" in text
    assert "Instead: g6e.12xlarge" in text


def test_without_a_type_there_is_one_line_for_each() -> None:
    text = show(None, "eu-west-1")
    assert sum(line.lstrip().startswith(("g", "p", "inf", "trn", "dl")) for line in text.splitlines()) == 85


def test_a_region_without_the_type_says_so() -> None:
    assert "not offered" in show("trn2.48xlarge", "af-south-1")


def test_a_price_that_is_not_known_shows_as_a_dash() -> None:
    line = next(
        line for line in show("p5e.48xlarge", "us-west-2").splitlines() if "on-demand " in line and "USD" not in line
    )
    assert line.split()[-1] == "-"


def test_an_unknown_type_and_an_unknown_region_are_answered_together() -> None:
    with pytest.raises(InputError) as caught:
        show("g6e.13xlarge", "eu-wst-1")
    assert [problem.nearest for problem in caught.value.problems] == ["g6e.16xlarge", "eu-west-1"]


def test_verify_says_how_much_it_checked() -> None:
    text, code = verify_text()
    assert code == 0
    assert "85 instance types" in text
    assert "no problem" in text
