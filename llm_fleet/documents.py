"""Reads YAML with the line of every key kept, so that an error can point at it.

Safe data only: no tags, no anchors or aliases (they can explode), no duplicate keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_fleet.errors import InputError, Problem

KeyPath = tuple[str | int, ...]
MAX_DOCUMENT_BYTES = 1_000_000
CONFIGS = Path(__file__).resolve().parent.parent / "configs"

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = {
    "tag:yaml.org,2002:str",
    "tag:yaml.org,2002:int",
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:bool",
    "tag:yaml.org,2002:null",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: plain data, and the line (from 1) of every key path in it."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[KeyPath, int]

    def where(self, *keys: str | int) -> str:
        """`file:line key.path` of the nearest enclosing key that the file has."""
        known = keys
        while known not in self.lines and known:
            known = known[:-1]
        place = f"{shown_path(self.path)}:{self.lines.get(known, 1)}"
        return f"{place} {dotted(keys)}" if keys else place


def dotted(keys: KeyPath) -> str:
    """A key path as text: pools.batch_processing.fallback[0]."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def shown_path(path: Path) -> str:
    """The path relative to the working folder where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        InputError: the file is missing, a folder, too large, unreadable, or not UTF-8.
    """
    where = shown_path(path)
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise InputError(Problem(where, "file is too large", f"{path.stat().st_size} bytes", "up to 1 MB"))
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(Problem(where, "is not UTF-8 text", f"byte {error.start}")) from None
    except OSError as error:
        raise InputError(Problem(where, f"cannot be read ({error.strerror})")) from None


def read_yaml(path: Path) -> Document:
    """Parse one YAML mapping.

    Raises:
        InputError: broken YAML, not a mapping, duplicate keys, anchors, aliases or tags; each with its line.
    """
    text = read_text(path)
    where = shown_path(path)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(Problem(f"{where}:{line}", f"is not valid YAML: {error.problem or error.context}")) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(Problem(where, f"is not valid YAML: {str(error) or 'nested too deep'}")) from None
    if not isinstance(root, yaml.MappingNode):
        kind = "nothing" if root is None else type(root).__name__.removesuffix("Node").lower()
        raise InputError(Problem(where, "must hold a mapping of keys", kind, "key: value lines"))
    reader = _Reader(where, text)
    try:
        data = reader.value(root, ())
    except RecursionError:
        raise InputError(Problem(where, "is nested too deep")) from None
    if reader.problems:
        raise InputError(reader.problems)
    return Document(path, data, reader.lines)


class _Reader:
    """Turns YAML nodes into plain data, noting lines and problems."""

    def __init__(self, where: str, text: str) -> None:
        self._where = where
        self._constructor: Any = _Loader(text)
        self._seen: set[int] = set()
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, keys: KeyPath) -> Any:
        self.lines.setdefault(keys, node.start_mark.line + 1)
        if id(node) in self._seen:
            self._report(node, keys, "aliases (*name) are not allowed: write the value out")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*keys, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, keys)

    def _mapping(self, node: yaml.MappingNode, keys: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, keys, "a key must be plain text")
                continue
            key = str(key_node.value)
            path = (*keys, key)
            if key in data:
                self._report(key_node, path, f"key {key!r} stands twice; first on line {self.lines[path]}")
                continue
            self.lines[path] = key_node.start_mark.line + 1
            data[key] = self.value(value_node, path)
        return data

    def _scalar(self, node: yaml.Node, keys: KeyPath) -> Any:
        if node.tag not in _SCALARS:
            if node.tag.startswith("tag:yaml.org,2002:timestamp"):
                return str(node.value)
            self._report(node, keys, f"tag {node.tag} is not allowed: plain text, numbers and true/false only")
            return None
        try:
            return self._constructor.construct_object(node)
        except (ValueError, yaml.YAMLError):
            self._report(node, keys, f"{node.value!r} cannot be read as a number")
            return None

    def _report(self, node: yaml.Node, keys: KeyPath, message: str) -> None:
        where = f"{self._where}:{node.start_mark.line + 1}"
        self.problems.append(Problem(f"{where} {dotted(keys)}" if keys else where, message))
