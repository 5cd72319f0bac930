"""The `llm-fleet` command: words in, text or JSON out, exit code 2 for a user's mistake."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from llm_fleet import __version__
from llm_fleet.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 checks failed, 2 a mistake in what was given."""
    try:
        parsed = _parser().parse_args(arguments)
        code = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-fleet", description="Plan fleets that serve open LLMs on AWS.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"llm-fleet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    plan = commands.add_parser(
        "plan", help="choose instance types for a pattern, with reasons and cost", allow_abbrev=False
    )
    plan.add_argument("pattern", help="a pattern's name, or a path to a YAML file")
    plan.add_argument(
        "-c", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override, as with cdk"
    )
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    plan.add_argument("--all", action="store_true", help="list every type that was not chosen")
    plan.set_defaults(run=_plan)

    patterns = commands.add_parser("patterns", help="list the patterns that ship with the kit", allow_abbrev=False)
    patterns.set_defaults(run=_patterns)

    schema = commands.add_parser("schema", help="print a JSON schema", allow_abbrev=False)
    schema.add_argument("what", choices=("plan", "pattern"))
    schema.set_defaults(run=_schema)

    catalog = commands.add_parser("catalog", help="look at or check the catalogue", allow_abbrev=False)
    verbs = catalog.add_subparsers(required=True, metavar="verb")
    show = verbs.add_parser("show", help="all types, or every fact of one", allow_abbrev=False)
    show.add_argument("instance_type", nargs="?", help="for example g6e.12xlarge")
    show.add_argument("--region", default="us-east-1")
    show.set_defaults(run=_catalog_show)
    verify = verbs.add_parser("verify", help="check the catalogue's files against each other", allow_abbrev=False)
    verify.set_defaults(run=_catalog_verify)
    return parser


# Imports stand inside the commands: each pays only for what it uses, and `plan` starts in a fraction of a second.


def _plan(parsed: argparse.Namespace) -> int:
    from llm_fleet.patterns.overrides import parse_assignments
    from llm_fleet.planning import plan_fleet
    from llm_fleet.report import plan_text

    plan = plan_fleet(parsed.pattern, parse_assignments(parsed.overrides))
    sys.stdout.write(plan.to_json() if parsed.json else plan_text(plan, parsed.all))
    return 0


def _patterns(parsed: argparse.Namespace) -> int:
    from llm_fleet.patterns import load_pattern, pattern_names

    for name in pattern_names():
        print(f"{name:24}{load_pattern(name).pattern.description}")
    return 0


def _schema(parsed: argparse.Namespace) -> int:
    import json

    from llm_fleet.patterns import Pattern
    from llm_fleet.planning import plan_json_schema

    print(json.dumps(plan_json_schema() if parsed.what == "plan" else Pattern.model_json_schema(), indent=2))
    return 0


def _catalog_show(parsed: argparse.Namespace) -> int:
    from llm_fleet.cli import catalog

    print(catalog.show(parsed.instance_type, parsed.region))
    return 0


def _catalog_verify(parsed: argparse.Namespace) -> int:
    from llm_fleet.cli import catalog

    text, code = catalog.verify_text()
    print(text)
    return code
