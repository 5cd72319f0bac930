"""`make demo` as its reader sees it: one run as a process, and the parts of its report."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from llm_fleet.planning import plan_fleet
from localcloud.child import ROOT
from localcloud.demo import NEXT_COMMANDS, PATTERN
from localcloud.demo_requests import BATCH, CHAT, STREAMED
from localcloud.steps import Steps


@pytest.fixture(scope="module")
def shown() -> str:
    """What one run prints."""
    done = subprocess.run([sys.executable, "-m", "localcloud.demo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_deploys_the_plan_and_finds_nothing_different(shown: str) -> None:
    assert "in the cloud" in shown
    assert "DIFFERS" not in shown


def test_the_demo_shows_the_types_the_cost_the_endpoint_and_the_reasons(shown: str) -> None:
    plan = plan_fleet(PATTERN)
    (pool,) = plan.pools
    for choice in pool.choices:
        assert f"{choice.instance_type} x{choice.capacity_weight}" in shown
    assert f"{plan.cost.expected.usd_per_month:,.0f} USD a month" in shown
    assert "Endpoint  http" in shown
    assert pool.headline in shown


def test_the_demo_shows_each_answer_with_its_pool_and_why(shown: str) -> None:
    for question in (CHAT, STREAMED):
        (place,) = [number for number, line in enumerate(shown.splitlines()) if f"{question} -> " in line]
        answer, way, speed = shown.splitlines()[place : place + 3]
        assert len(answer.rpartition(" -> ")[2]) > 5
        assert re.search(r"pool cost_efficient, because \S.+; at most 0\.\d+ USD", way)
        assert re.search(r"[1-9]\d* tokens in [\d.]+ s, \d+ tokens/s", speed)
    assert "because realtime-flexible; high_performance missing" in shown
    assert "first token after" in shown


def test_the_demos_batch_completes_in_the_order_of_its_input(shown: str) -> None:
    assert f"completed: {len(BATCH)} lines completed, 0 failed" in shown
    assert re.findall(r"^ +(line-\d) -> \S", shown, re.MULTILINE) == ["line-1", "line-2", "line-3"]


def test_the_demo_shows_what_its_tokens_would_cost(shown: str) -> None:
    assert re.search(r"\d+ tokens in all: 0\.\d+ USD, at the plan's [\d.]+ USD per million", shown)


def test_the_demo_ends_with_three_commands(shown: str) -> None:
    last = [line.split("#")[0].strip() for line in shown.splitlines()[-3:]]
    assert last == [command for command, _why in NEXT_COMMANDS]


def test_each_step_shows_its_number_and_seconds() -> None:
    output = io.StringIO()
    steps = Steps(2, output)
    with steps.step("plan"):
        pass
    with pytest.raises(ValueError, match="broken"), steps.step("deploy"):
        raise ValueError("broken")
    first, second = output.getvalue().splitlines()
    assert first.startswith("  1/2 plan ...")
    assert first.endswith(" s")
    assert second.endswith(" failed")
