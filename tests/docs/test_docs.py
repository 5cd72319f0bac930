"""The docs tell the truth: their links lead somewhere, and what they tell a reader to type works."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from llm_fleet.cli import main
from llm_fleet.planning import plan_fleet

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("constructs/**/*.md")])
PROVEN_ELSEWHERE = {
    "make demo": "tests/deploy",
    "make test": "this run",
    "cdk ls": "tests/deploy",
    "cdk synth": "tests/deploy",
    "cdk diff": "tests/deploy",
    "cdk deploy": "tests/deploy",
    "cdk destroy": "tests/deploy",
    ".venv/bin/llm-fleet dev": "tests/dev",
    ".venv/bin/llm-fleet keys": "tests/cli/test_keys.py",
}
"""Commands that take a cloud or would start themselves: which tests run them."""


def commands(page: Path) -> list[str]:
    """Every command in the console blocks of a page: the lines that start with a dollar sign."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return [line[2:].split("  #")[0].strip() for block in blocks for line in block.splitlines() if line[:2] == "$ "]


README_COMMANDS = sorted(set(commands(ROOT / "README.md")))


def test_the_readme_has_commands() -> None:
    assert len(README_COMMANDS) >= 8


@pytest.mark.parametrize("command", README_COMMANDS)
def test_a_command_of_the_readme_works(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    if any(command.startswith(known) for known in PROVEN_ELSEWHERE):
        return
    if words[0].endswith("llm-fleet"):
        assert main(words[1:]) == 0, capsys.readouterr().err
    elif words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        verb = words[1].split("=")[0]
        assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(), re.MULTILINE) or verb.startswith("bench-")
    else:
        pytest.fail(f"no test runs {command!r}")


def test_what_the_page_of_levers_shows_is_what_its_commands_print(capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(
        r"```console\n\$ (.*?)\n```\n```text\n(.*?)```", (ROOT / "docs/levers.md").read_text(), re.DOTALL
    )
    assert len(shown) == 2
    for command, text in shown:
        assert main(shlex.split(command)[1:]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert text.strip()
        assert [line for line in text.splitlines() if line not in printed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_shows_the_demo_of_the_plan_as_it_is_now() -> None:
    plan = plan_fleet("startup-mvp", {"image": "none"})
    assert f"Plan      {plan.fingerprint()[:12]}" in (ROOT / "README.md").read_text()
