"""Is every line of an input file a request? Each that is not is named, with its number and what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import orjson

from llm_fleet.batches.records import BatchError
from llm_fleet.gateway.clerk.input_lines import MAX_LINE_BYTES, InputLine

MAX_LINES = 50_000
"""OpenAI's limit."""
MAX_ERRORS_SHOWN = 100
"""The batch's item holds them, and has room for 400 kB."""
MAX_CUSTOM_ID_CHARACTERS = 512
"""Ten messages with their ids stay far below what SQS takes at once."""


@dataclass(frozen=True)
class Validated:
    """What a file holds. It is good where `errors` is empty."""

    total: int
    model: str | None
    """Of the first line."""
    errors: tuple[BatchError, ...]


def validate(lines: Iterable[InputLine], endpoint: str, models: frozenset[str], keep: Callable[[], None]) -> Validated:
    """Check all lines; `keep` is called with each."""
    seen: set[bytes] = set()  # digests: 50,000 ids of any length take 5 MB
    errors: list[BatchError] = []
    bad_lines = 0
    total = 0
    model: str | None = None
    for line in lines:
        keep()
        total += 1
        if total > MAX_LINES:
            many = BatchError("too_many_tasks", f"The file has more than {MAX_LINES} lines, the most that is allowed.")
            return Validated(total, model, (many,))
        try:
            model_here = _model_of(line, endpoint, models, seen)
            model = model or model_here
        except _BadLineError as error:
            bad_lines += 1
            if bad_lines <= MAX_ERRORS_SHOWN:
                errors.append(BatchError(error.code, error.message, line.number, error.param))
    if not total:
        return Validated(0, None, (BatchError("empty_file", "The file has no lines: each line is one request."),))
    if bad_lines > MAX_ERRORS_SHOWN:
        more = bad_lines - MAX_ERRORS_SHOWN
        errors.append(
            BatchError("more_errors", f"{more} more lines are wrong; these are the first {MAX_ERRORS_SHOWN}.")
        )
    return Validated(total, model, tuple(errors))


class _BadLineError(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def _model_of(line: InputLine, endpoint: str, models: frozenset[str], seen: set[bytes]) -> str:
    """The model that a good line asks for; its custom_id is seen from now on."""
    if line.content is None:
        raise _BadLineError("line_too_long", f"The line is longer than {MAX_LINE_BYTES} bytes.")
    try:
        parsed: object = orjson.loads(line.content)
    except orjson.JSONDecodeError as error:
        raise _BadLineError("invalid_json_line", f"This line is not parseable as valid JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise _BadLineError("invalid_json_line", "This line is no JSON object.")
    request = cast("dict[str, Any]", parsed)
    _check_custom_id(_required(request, "custom_id", str, "a string"), seen)
    method = _required(request, "method", str, "a string")
    if method != "POST":
        raise _BadLineError("invalid_method", f"The method is {method[:20]!r}, and only 'POST' is allowed.", "method")
    url = _required(request, "url", str, "a string")
    if url != endpoint:
        message = f"The url {url[:80]!r} does not match the batch's endpoint {endpoint!r}."
        raise _BadLineError("url_mismatch", message, "url")
    body = _required(request, "body", dict, "an object")
    model = _required(body, "model", str, "a string", "body.")
    if model not in models:
        known = ", ".join(sorted(models))
        raise _BadLineError("model_not_found", f"There is no model {model[:80]!r}; there are: {known}.", "body.model")
    if body.get("stream"):
        raise _BadLineError("invalid_request", "Batches do not stream: leave 'stream' out.", "body.stream")
    return model


def _required(holder: dict[str, Any], name: str, kind: type, kind_name: str, path: str = "") -> Any:
    value = holder.get(name)
    if value is None:
        message = f"Missing required parameter: '{path}{name}'."
        raise _BadLineError("missing_required_parameter", message, path + name)
    if not isinstance(value, kind):
        raise _BadLineError("invalid_type", f"Invalid type for '{path}{name}': expected {kind_name}.", path + name)
    return value


def _check_custom_id(custom_id: str, seen: set[bytes]) -> None:
    if not custom_id or len(custom_id) > MAX_CUSTOM_ID_CHARACTERS:
        message = f"custom_id has {len(custom_id)} characters; 1 to {MAX_CUSTOM_ID_CHARACTERS} are allowed."
        raise _BadLineError("invalid_custom_id", message, "custom_id")
    digest = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
    if digest in seen:
        message = f"The custom_id {custom_id[:80]!r} stands in an earlier line too; each must be unique in its file."
        raise _BadLineError("duplicate_custom_id", message, "custom_id")
    seen.add(digest)
