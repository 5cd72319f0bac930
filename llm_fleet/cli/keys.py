"""`llm-fleet keys`: make, list and revoke the API keys of a deployed pattern, in its table."""

# session.client has an overload for every AWS service, and only those in requirements/dev.in have stubs installed:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast, get_args

import boto3
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError

from llm_fleet.errors import InputError, Problem, unknown_choice
from llm_fleet.gateway.key_store import create_key, list_keys, revoke_key
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.report.table import table
from llm_fleet.routing import Budget, Priority

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

OUTPUT = "ApiKeysTable"
"""Of the serving stack: the table's name."""
LARGEST_LIMIT = 10**9
NAME = re.compile(r"[\w.@ -]{1,64}")
KEY_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Place:
    """Where the keys lie, as typed. `table` wins over `stack`; without a region the user's AWS settings give it."""

    stack: str | None
    table: str | None
    region: str | None


@dataclass(frozen=True)
class Wanted:
    """A key to be made, as typed."""

    name: str
    requests_per_minute: str | None
    tokens_per_minute: str | None
    priority: str | None
    budget: str | None


def create(place: Place, wanted: Wanted) -> str:
    """Make a key; returns its text, which is stored nowhere.

    Raises:
        InputError: something of what was typed cannot be, or there is no such stack.
        botocore's ClientError or BotoCoreError: AWS refused or did not answer.
    """
    problems = [*_place_problems(place), *_wanted_problems(wanted)]
    if problems:
        raise InputError(problems)
    client, name = _open(place)
    text, _key = create_key(
        client,
        name,
        wanted.name,
        requests_per_minute=int(wanted.requests_per_minute) if wanted.requests_per_minute else None,
        tokens_per_minute=int(wanted.tokens_per_minute) if wanted.tokens_per_minute else None,
        priority=cast("Priority | None", wanted.priority),
        budget=cast("Budget | None", wanted.budget),
    )
    return text


def listing(place: Place) -> str:
    """A table of the keys. Raises as `create` does."""
    if problems := _place_problems(place):
        raise InputError(problems)
    keys = list_keys(*_open(place))
    header = ("id", "name", "created", "requests/min", "tokens/min", "priority", "budget")
    return table(header, [_row(key) for key in keys]) if keys else "no keys"


def revoke(place: Place, key_id: str) -> None:
    """Delete a key. Raises as `create` does, InputError too where no such key is."""
    problems = _place_problems(place)
    if not KEY_ID.fullmatch(key_id):
        what = "is no key id: give the 12 hexadecimal digits that `llm-fleet keys list` shows"
        problems.append(Problem("keys revoke", what, repr(key_id)))
    if problems:
        raise InputError(problems)
    client, name = _open(place)
    if not revoke_key(client, name, key_id):
        known = ", ".join(key.key_id for key in list_keys(client, name)) or "none"
        raise InputError(Problem("keys revoke", "no such key", repr(key_id), known))


def aws_problem(error: Exception) -> str:
    """What to print for an error of botocore."""
    if isinstance(error, NoCredentialsError):
        return "llm-fleet keys: no AWS credentials: set AWS_PROFILE, or log in with aws sso login"
    if isinstance(error, NoRegionError):
        return "llm-fleet keys: no AWS region: give --region, or set AWS_REGION"
    return f"llm-fleet keys: {' '.join(str(error).split())}"


def _open(place: Place) -> tuple[DynamoDBClient, str]:
    """A client, and the table's name."""
    region = place.region or os.environ.get("AWS_REGION")  # boto3 itself reads only AWS_DEFAULT_REGION and profiles
    session = boto3.Session(region_name=region)
    return session.client("dynamodb"), place.table or _table_of(session, place.stack or "")


def _table_of(session: boto3.Session, stack: str) -> str:
    try:
        (described,) = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ValidationError":
            raise
        fix = f"deploy it with cdk deploy {stack}, or give another --region or --stack"
        raise InputError(Problem("--stack", f"no such stack in {session.region_name}: {fix}", repr(stack))) from error
    for output in described.get("Outputs", []):
        if output.get("OutputKey") == OUTPUT:
            return output.get("OutputValue", "")
    fix = "give the serving stack, which bears the pattern's name, or the table by --table"
    raise InputError(Problem("--stack", f"the stack has no output {OUTPUT}: {fix}", repr(stack)))


def _place_problems(place: Place) -> list[Problem]:
    if place.stack or place.table:
        return []
    return [Problem("keys", "which keys? give --stack with the serving stack's name, or --table with the table's")]


def _wanted_problems(wanted: Wanted) -> list[Problem]:
    problems: list[Problem] = []
    if not NAME.fullmatch(wanted.name):
        allowed = "1 to 64 letters, digits, blanks and . _ - @"
        problems.append(Problem("keys create", "a key's name says who uses it", repr(wanted.name), allowed))
    for option in ("requests_per_minute", "tokens_per_minute"):
        given: str | None = getattr(wanted, option)
        if given is not None and not _is_limit(given):
            where = f"--{option.replace('_', '-')}"
            problems.append(Problem(where, "not a limit", repr(given), f"a whole number from 1 to {LARGEST_LIMIT}"))
    for option, words in (("priority", get_args(Priority)), ("budget", get_args(Budget))):
        given = getattr(wanted, option)
        if given is not None and given not in words:
            problems.append(unknown_choice(f"--{option}", option, given, words))
    return problems


def _is_limit(given: str) -> bool:
    return given.isascii() and given.isdigit() and 1 <= int(given[:12]) <= LARGEST_LIMIT and len(given) < 12


def _row(key: ApiKey) -> tuple[str, ...]:
    created = datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    given = (key.requests_per_minute, key.tokens_per_minute, key.priority, key.budget)
    return (key.key_id, key.name, created, *("-" if fact is None else str(fact) for fact in given))
