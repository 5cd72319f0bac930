"""The `llm-fleet` command: words in, text or JSON out, exit code 2 for a user's mistake."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_fleet import __version__
from llm_fleet.errors import InputError, Problem

if TYPE_CHECKING:
    from llm_fleet.cli import keys


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 checks failed or a process ended, 2 a mistake in what was
    given, 3 AWS refused or did not answer.
    """
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
        prog="llm-fleet", description="Plan, try and use fleets that serve open LLMs on AWS.", allow_abbrev=False
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

    _add_estimate(
        commands.add_parser("estimate", help="speed and memory of a model on an instance type", allow_abbrev=False)
    )
    validate = commands.add_parser("validate", help="predictions held against measured points", allow_abbrev=False)
    validate.add_argument("--points", required=True, metavar="FILE", help="a CSV file of measured points")
    validate.add_argument("--json", action="store_true", help="print the table as JSON")
    validate.add_argument("--plot", metavar="FILE", help="draw measured against predicted (png)")
    validate.set_defaults(run=_validate)

    dev = commands.add_parser(
        "dev", help="serve a pattern on this machine: gateway, worker, small engine", allow_abbrev=False
    )
    dev.add_argument("--pattern", default="startup-mvp", help="a pattern's name, or a path to a YAML file")
    dev.add_argument("--json", action="store_true", help="print base URL and key as one line of JSON, nothing else")
    dev.set_defaults(run=_dev)

    _add_keys(commands.add_parser("keys", help="API keys of a deployed pattern", allow_abbrev=False))
    return parser


def _add_estimate(estimate: argparse.ArgumentParser) -> None:
    estimate.add_argument("--model", metavar="NAME", help="as in a pattern, or a path to a config.json")
    estimate.add_argument("--instance", metavar="TYPE", help="for example g6e.12xlarge")
    estimate.add_argument(
        "--tp", metavar="N", help="tensor parallel degree; default: the smallest that holds the model"
    )
    estimate.add_argument("--precision", metavar="WORD", help="default: of the model's own weights")
    estimate.add_argument("--input", metavar="TOKENS", default="1024", help="of a request; default 1024")
    estimate.add_argument("--output", metavar="TOKENS", default="256", help="of an answer; default 256")
    estimate.add_argument("--concurrency", metavar="N", help="requests in flight on the instance; default 1")
    estimate.add_argument("--rate", metavar="R", help="requests per second, in place of --concurrency")
    estimate.add_argument("--json", action="store_true", help="print the answer as JSON")
    estimate.add_argument("--points", metavar="FILE", help="predict every row of a CSV file instead; needs -o")
    estimate.add_argument("-o", "--out", metavar="FILE", help="where the rows with their predictions go")
    estimate.set_defaults(run=_estimate)


def _add_keys(keys: argparse.ArgumentParser) -> None:
    verbs = keys.add_subparsers(required=True, metavar="verb")
    create = verbs.add_parser("create", help="make a key and print it, this once", allow_abbrev=False)
    create.add_argument("name", help="who or what will use it")
    create.add_argument("--requests-per-minute", metavar="N", help="default: no limit of its own")
    create.add_argument("--tokens-per-minute", metavar="N", help="default: no limit of its own")
    create.add_argument("--priority", metavar="WORD", help="of requests that name none: realtime, default or batch")
    create.add_argument("--budget", metavar="WORD", help="of requests that name none: flexible, moderate or strict")
    create.set_defaults(act=_keys_create)
    listing = verbs.add_parser("list", help="all keys, without their secrets", allow_abbrev=False)
    listing.set_defaults(act=_keys_list)
    revoke = verbs.add_parser("revoke", help="delete a key", allow_abbrev=False)
    revoke.add_argument("key_id", metavar="ID", help="as `keys list` shows it")
    revoke.set_defaults(act=_keys_revoke)
    for verb in (create, listing, revoke):
        verb.add_argument("--stack", help="the serving stack: the pattern's name")
        verb.add_argument("--table", help="the table itself, where there is no stack to ask")
        verb.add_argument("--region", help="default: of your AWS settings")
        verb.set_defaults(run=_keys)


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


def _estimate(parsed: argparse.Namespace) -> int:
    from llm_fleet.cli import estimate

    if parsed.points or parsed.out:
        if not (parsed.points and parsed.out):
            raise InputError(Problem("llm-fleet estimate", "--points FILE and -o FILE go together: give both"))
        text, code = estimate.points(parsed.points, parsed.out)
        print(text)
        return code
    lengths = (parsed.input, parsed.output)
    wanted = estimate.Wanted(
        *(parsed.model, parsed.instance, parsed.tp, parsed.precision), *lengths, parsed.concurrency, parsed.rate
    )
    print(estimate.single(wanted, parsed.json))
    return 0


def _validate(parsed: argparse.Namespace) -> int:
    from llm_fleet.cli import validate

    text, problems, code = validate.validate(parsed.points, parsed.json, parsed.plot)
    print(text)
    if problems:
        print(problems, file=sys.stderr)
    return code


def _dev(parsed: argparse.Namespace) -> int:
    try:
        from localcloud.dev import run
    except ImportError as error:
        fix = "it runs from a checkout of the kit: clone it and run make setup there"
        raise InputError(Problem("llm-fleet dev", f"{error.name} is missing; {fix}")) from error
    return run(parsed.pattern, as_json=parsed.json)


def _keys(parsed: argparse.Namespace) -> int:
    from botocore.exceptions import BotoCoreError, ClientError

    from llm_fleet.cli import keys

    try:
        parsed.act(parsed, keys.Place(parsed.stack, parsed.table, parsed.region))
    except (BotoCoreError, ClientError) as error:
        print(keys.aws_problem(error), file=sys.stderr)
        return 3
    return 0


def _keys_create(parsed: argparse.Namespace, place: keys.Place) -> None:
    from llm_fleet.cli import keys

    limits = (parsed.requests_per_minute, parsed.tokens_per_minute)
    print(keys.create(place, keys.Wanted(parsed.name, *limits, parsed.priority, parsed.budget)))
    print("This key is shown once: only its hash is stored.", file=sys.stderr)


def _keys_list(parsed: argparse.Namespace, place: keys.Place) -> None:
    from llm_fleet.cli import keys

    print(keys.listing(place))


def _keys_revoke(parsed: argparse.Namespace, place: keys.Place) -> None:
    from llm_fleet.cli import keys

    keys.revoke(place, parsed.key_id)
    print(f"{parsed.key_id} is revoked; running gateways refuse it within half a minute")
