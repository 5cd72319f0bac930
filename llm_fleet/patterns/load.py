"""Finds a pattern by name or path and validates it; every mistake of the file at once, each with its line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_fleet.documents import CONFIGS, Document, KeyPath, read_yaml
from llm_fleet.errors import InputError, Problem, nearest_of, unknown_choice
from llm_fleet.patterns.schema import Pattern

PATTERNS = CONFIGS / "patterns"


@dataclass(frozen=True, slots=True)
class LoadedPattern:
    """A pattern and the document it came from, for messages that point into it."""

    pattern: Pattern
    document: Document


def pattern_names() -> tuple[str, ...]:
    """Names of the patterns that ship with the kit, sorted."""
    return tuple(sorted(path.stem for path in PATTERNS.glob("*.yaml")))


def load_pattern(name_or_path: str) -> LoadedPattern:
    """A shipped pattern by its name, or a user's YAML file by its path.

    Raises:
        InputError: no such pattern or file, or a file with mistakes.
    """
    if _looks_like_a_path(name_or_path):
        return _load(Path(name_or_path))
    if name_or_path not in pattern_names():
        problem = unknown_choice("pattern", "pattern", name_or_path, pattern_names())
        raise InputError(
            Problem(
                problem.where,
                problem.message,
                problem.value,
                f"{problem.allowed}, or a path to a YAML file",
                problem.nearest,
            )
        )
    return _load(PATTERNS / f"{name_or_path}.yaml")


def _looks_like_a_path(text: str) -> bool:
    return os.sep in text or "/" in text or text.endswith((".yaml", ".yml"))


def _load(path: Path) -> LoadedPattern:
    document = read_yaml(path)
    try:
        return LoadedPattern(Pattern.model_validate(document.data), document)
    except ValidationError as error:
        raise InputError([_problem(document, detail) for detail in error.errors(include_url=False)]) from None


def _problem(document: Document, detail: Any) -> Problem:
    """One pydantic error in our words: place, value, what is allowed, nearest spelling."""
    keys: KeyPath = tuple(key for key in detail["loc"] if key != "[key]")
    kind, context = detail["type"], detail.get("ctx", {})
    where = document.where(*keys)
    given = detail.get("input")
    value = repr(given) if isinstance(given, str | int | float | bool) and kind != "missing" else ""
    match kind:
        case "extra_forbidden":
            allowed = _keys_beside(keys)
            return Problem(
                where, f"unknown key {keys[-1]!r}", "", ", ".join(allowed), nearest_of(str(keys[-1]), allowed)
            )
        case "missing":
            return Problem(document.where(*keys), f"key {keys[-1]!r} is missing")
        case "literal_error":
            allowed = [text.strip("' ") for text in context["expected"].replace(" or ", ", ").split(",")]
            return Problem(
                where, "is none of the allowed words", value, ", ".join(allowed), nearest_of(str(given), allowed)
            )
        case "string_pattern_mismatch":
            return Problem(where, "does not have the right form", value, f"text that matches {context['pattern']}")
        case "value_error":
            return Problem(where, str(context.get("error", detail["msg"])), value)
        case _:
            return Problem(where, _lower_first(detail["msg"]), value)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _keys_beside(keys: KeyPath) -> list[str]:
    """The keys that the schema allows at the place of an unknown one."""
    schema = Pattern.model_json_schema()
    node: dict[str, Any] = schema
    for key in keys[:-1]:
        node = _resolved(schema, node)
        properties: dict[str, Any] = node.get("properties", {})
        node = properties.get(str(key), node.get("additionalProperties") or {})
    return sorted(_resolved(schema, node).get("properties", {}))


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            node = option
    if "$ref" in node:
        return schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node
