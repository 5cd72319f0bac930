"""Every template and every plan, pinned. `make snapshots` rewrites them; read the diff as you would read the change."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

from llm_fleet.patterns import pattern_names
from tests.templates.assembly import Assembly, normalised

SNAPSHOTS = Path(__file__).parent / "snapshots"
STACKS = [f"{name}{suffix}" for name in pattern_names() for suffix in ("", "-foundation")]
SHOWN_LINES = 80


def compare(path: Path, text: str) -> None:
    """Fail with a diff where the text differs from its snapshot; rewrite it where that was asked for."""
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return
    pinned = path.read_text() if path.exists() else ""
    if text != pinned:
        diff = list(difflib.unified_diff(pinned.splitlines(), text.splitlines(), "pinned", "now", lineterm="", n=2))
        shown = "\n".join(diff[:SHOWN_LINES])
        pytest.fail(
            f"{path.name} changed ({len(diff)} lines of diff); `make snapshots` accepts it:\n{shown}", pytrace=False
        )


@pytest.mark.parametrize("stack", STACKS)
def test_the_template_is_the_one_that_was_reviewed(stack: str, assembly: Assembly) -> None:
    compare(SNAPSHOTS / f"{stack}.template.yaml", normalised(assembly.template(stack)))


@pytest.mark.parametrize("pattern", pattern_names())
def test_the_plan_is_the_one_that_was_reviewed(pattern: str, assembly: Assembly) -> None:
    compare(SNAPSHOTS / f"{pattern}.plan.json", assembly.plan_text(pattern))


def test_every_pattern_has_its_serving_and_its_foundation_stack(assembly: Assembly) -> None:
    assert assembly.stacks() == sorted(STACKS)
