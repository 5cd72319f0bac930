"""Typed reads of a Hugging Face config.json, noting every missing or wrong key by its path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from llm_fleet.documents import read_text, shown_path
from llm_fleet.errors import InputError, Problem

TEXT_KEYS = ("text_config", "llm_config", "language_config")
"""Where a multi-modal config nests its decoder."""
LARGEST = 10**9
"""No size in a config is larger; what is, is no size."""


class HubKeys:
    """The decoder's keys of one config.json, with the file's own keys behind them."""

    def __init__(self, path: Path, root: dict[str, Any]) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self._root = root
        self._inside = next((key for key in TEXT_KEYS if isinstance(root.get(key), dict)), "")
        self._data = cast("dict[str, Any]", root[self._inside]) if self._inside else root

    @property
    def nested(self) -> bool:
        """Whether the decoder is one part of a larger model."""
        return bool(self._inside)

    def where(self, name: str) -> str:
        """`file key.path`."""
        inside = f"{self._inside}." if self._inside and (name in self._data or name not in self._root) else ""
        return f"{shown_path(self.path)} {inside}{name}"

    def raw(self, *names: str) -> Any:
        """The first of these keys that is there and not null, in the decoder's part or else in the file's."""
        for data in (self._data, self._root):
            for name in names:
                if data.get(name) is not None:
                    return data[name]
        return None

    def raw_inside(self, *names: str) -> Any:
        """The first of these keys that is there and not null in the decoder's part."""
        return next((self._data[name] for name in names if self._data.get(name) is not None), None)

    def report(self, name: str, message: str, value: object = None, allowed: str = "") -> None:
        """Note a problem of one key."""
        self.problems.append(Problem(self.where(name), message, "" if value is None else _shown(value), allowed))

    def listed(self, name: str) -> list[object]:
        """The list under a key; empty where it is not there or no list."""
        value = self.raw(name)
        return cast("list[object]", value) if isinstance(value, list) else []

    def size(self, name: str, *others: str, default: int | None = None) -> int:
        """A whole number of at least 1 under the first of these keys that is there; 1 where it is wrong."""
        value = self.raw_inside(name, *others)
        if value is None:
            if default is None:
                other = f" (or {', '.join(others)})" if others else ""
                self.report(name, f"is missing{other}", allowed="a whole number of at least 1")
            return default or 1
        return self._checked(self._present((name, *others)), value) or 1

    def optional_size(self, *names: str) -> int | None:
        """A whole number of at least 1, or None where none of these keys is there or it is 0."""
        value = self.raw_inside(*names)
        return None if value is None or value == 0 else self._checked(self._present(names), value)

    def flag(self, name: str, default: bool) -> bool:
        """true or false, in the decoder's part or else in the file's."""
        value = self.raw(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.report(name, "is wrong", value, "true or false")
        return default

    def words(self, name: str, length: int, allowed: Sequence[str]) -> tuple[str, ...]:
        """A list of words, one a layer; empty where the key is not there."""
        return cast("tuple[str, ...]", self._per_layer(name, length, tuple(allowed)))

    def ones(self, name: str, length: int) -> tuple[int, ...]:
        """A list of 0 and 1, one a layer; empty where the key is not there."""
        return cast("tuple[int, ...]", self._per_layer(name, length, (0, 1)))

    def _per_layer(self, name: str, length: int, allowed: tuple[object, ...]) -> tuple[object, ...]:
        value: object = self.raw_inside(name)
        if value is None:
            return ()
        found = self.listed(name)
        if len(found) == length and all(not isinstance(item, bool) and item in allowed for item in found):
            return tuple(found)
        self.report(name, "is wrong", value, f"a list of {length}, each one of {', '.join(map(str, allowed))}")
        return ()

    def _present(self, names: Sequence[str]) -> str:
        return next(name for name in names if self._data.get(name) is not None)

    def _checked(self, name: str, value: object) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST:
            return value
        self.report(name, "is wrong", value, f"a whole number from 1 to {LARGEST}")
        return None


def read_hub_keys(path: Path) -> HubKeys:
    """The config.json at `path`.

    Raises:
        InputError: the file is missing, too large, no JSON, or no mapping.
    """
    where = shown_path(path)
    text = read_text(path)
    try:
        root = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(Problem(f"{where}:{error.lineno}", f"is not valid JSON: {error.msg}")) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or nesting without end
        message = "nested too deep" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise InputError(Problem(where, f"is not valid JSON: {message}")) from None
    if not isinstance(root, dict):
        raise InputError(Problem(where, "must hold a mapping of keys", _shown(root), "the config.json of a model"))
    return HubKeys(path, cast("dict[str, Any]", root))


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
