"""Overrides given as -c key=value, alike for plan, synth and deploy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from llm_fleet.errors import InputError, Problem, nearest_of, unknown_choice
from llm_fleet.models.card import PRECISIONS
from llm_fleet.patterns.words import IMAGE_PATTERN, KV_PRECISIONS, PURCHASE_KINDS, SIZINGS, PurchaseKind

OVERRIDE_KEYS = (
    *("model", "precision", "kv_precision", "sizing", "region", "instance_families", "max_instances", "purchase"),
    "image",
)
MAX_INSTANCES = 1000


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user typed, checked as far as it can be without catalogue and models. None: not given."""

    model: str | None = None
    precision: str | None = None
    kv_precision: str | None = None
    sizing: str | None = None
    region: str | None = None
    instance_families: tuple[str, ...] | None = None
    max_instances: int | None = None
    purchase: PurchaseKind | None = None
    image: str | None = None

    def as_text(self) -> dict[str, str]:
        """The given ones as key -> text, sorted, for the plan."""
        texts = {
            "model": self.model,
            "precision": self.precision,
            "kv_precision": self.kv_precision,
            "sizing": self.sizing,
            "region": self.region,
            "instance_families": ",".join(self.instance_families) if self.instance_families else None,
            "max_instances": None if self.max_instances is None else str(self.max_instances),
            "purchase": self.purchase,
            "image": self.image,
        }
        return {key: text for key, text in sorted(texts.items()) if text is not None}


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """`key=value` words as a mapping; a later one wins.

    Raises:
        InputError: a word without `=`, or without a value.
    """
    problems: list[Problem] = []
    parsed: dict[str, str] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        if not equals or not value.strip():
            problems.append(Problem(f"-c {word}", "needs a value", "", f"-c {key or 'key'}=value"))
        else:
            parsed[key.strip()] = value.strip()
    if problems:
        raise InputError(problems)
    return parsed


def parse_overrides(given: Mapping[str, str]) -> Overrides:
    """Check keys and values that need no other data.

    Raises:
        InputError: all unknown keys and bad values at once.
    """
    problems: list[Problem] = []
    overrides = Overrides()
    for key, text in given.items():
        where = f"-c {key}={text}"
        if key not in OVERRIDE_KEYS:
            problems.append(
                Problem(
                    where, f"unknown override {key!r}", "", ", ".join(OVERRIDE_KEYS), nearest_of(key, OVERRIDE_KEYS)
                )
            )
        elif not text.strip():
            problems.append(Problem(f"-c {key}=", "needs a value", "", f"-c {key}=value"))
        else:
            overrides = _with(overrides, key, text.strip(), where, problems)
    if problems:
        raise InputError(problems)
    return overrides


def _with(overrides: Overrides, key: str, text: str, where: str, problems: list[Problem]) -> Overrides:
    match key:
        case "precision":
            if text not in PRECISIONS:
                problems.append(unknown_choice(where, "precision", text, PRECISIONS))
            return replace(overrides, precision=text)
        case "kv_precision":
            if text not in KV_PRECISIONS:
                problems.append(unknown_choice(where, "kv_precision", text, KV_PRECISIONS))
            return replace(overrides, kv_precision=text)
        case "sizing":
            if text not in SIZINGS:
                problems.append(unknown_choice(where, "sizing", text, SIZINGS))
            return replace(overrides, sizing=text)
        case "instance_families":
            families = tuple(part.strip() for part in text.split(","))
            if not all(families):
                problems.append(Problem(where, "has an empty name between commas", "", "g5,g6e"))
            return replace(overrides, instance_families=families)
        case "max_instances":
            if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= MAX_INSTANCES:
                problems.append(Problem(where, "is not a number of instances", repr(text), f"1 to {MAX_INSTANCES}"))
                return overrides
            return replace(overrides, max_instances=int(text))
        case "purchase":
            if text not in PURCHASE_KINDS:
                problems.append(unknown_choice(where, "purchase", text, PURCHASE_KINDS))
            return replace(overrides, purchase=cast(PurchaseKind, text))
        case "model":
            return replace(overrides, model=text)
        case "region":
            return replace(overrides, region=text)
        case _:
            if not re.match(IMAGE_PATTERN, text):
                problems.append(
                    Problem(where, "is no image", repr(text), "build, none or a URI like registry/name:tag")
                )
            return replace(overrides, image=text)
