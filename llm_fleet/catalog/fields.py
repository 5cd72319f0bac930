"""Typed reads of one mapping in a YAML document, noting every missing, unknown or wrong key with its line."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, TypeGuard, TypeVar, cast

from llm_fleet.documents import Document
from llm_fleet.errors import Problem, unknown_choice

T = TypeVar("T")


class Fields:
    """The mapping at `keys` of a document. A reader returns a harmless value where the key is wrong."""

    def __init__(self, document: Document, key: str, known: Collection[str], problems: list[Problem]) -> None:
        self._document, self._key, self._problems = document, key, problems
        value: Any = document.data[key]
        self._data = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            problems.append(Problem(document.where(key), "must be a mapping", repr(value), ", ".join(known)))
        for name in self._data:
            if name not in known:
                problems.append(unknown_choice(document.where(key, name), "key", name, known))

    def text(self, name: str, default: str | None = None) -> str:
        """Text that must be there, unless a default is given."""
        value = self._data.get(name, default)
        if isinstance(value, str):
            return value.strip()
        return self._report(name, "must be text", "")

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """One of a closed list."""
        value = self._data.get(name)
        if value not in allowed:
            self._problems.append(unknown_choice(self._document.where(self._key, name), name, str(value), allowed))
        return str(value)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._data.get(name)
        return value if isinstance(value, bool) else self._report(name, "must be true or false", False)

    def number(self, name: str, at_most: float = math.inf) -> float:
        """A number above zero."""
        value = self._data.get(name)
        if _is_number(value) and 0 < value <= at_most:
            return float(value)
        allowed = f"above 0 and at most {at_most:g}" if at_most < math.inf else "above 0"
        return self._report(name, "must be a number in range", 1.0, allowed)

    def names(self, name: str, allowed: Collection[str] | None = None) -> tuple[str, ...]:
        """A list of words."""
        found = self._list(name)
        for index, word in enumerate(found):
            if not isinstance(word, str) or (allowed is not None and word not in allowed):
                where = self._document.where(self._key, name, index)
                self._problems.append(unknown_choice(where, name, str(word), allowed or ()))
        return tuple(str(word) for word in found)

    def degrees(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at least 1."""
        found = self._list(name)
        if found and all(_is_degree(value) for value in found):
            return tuple(found)
        return self._report(name, "must be a list of whole numbers", (1,), "at least 1 each")

    def texts(self, name: str, allowed: Collection[str]) -> dict[str, str]:
        """Text by one of the allowed words."""
        table = self._mapping(name)
        if table and all(k in allowed and isinstance(v, str) for k, v in table.items()):
            return table
        return self._report(name, "must map words to text", {}, ", ".join(allowed))

    def _list(self, name: str) -> list[Any]:
        value = self._data.get(name)
        if isinstance(value, list):
            return cast("list[Any]", value)
        return self._report(name, "must be a list", cast("list[Any]", []))

    def _mapping(self, name: str) -> dict[str, Any]:
        value = self._data.get(name)
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    def _report(self, name: str, message: str, instead: T, allowed: str = "") -> T:
        value = repr(self._data[name]) if name in self._data else "nothing"
        self._problems.append(Problem(self._document.where(self._key, name), message, value, allowed))
        return instead


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_degree(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
