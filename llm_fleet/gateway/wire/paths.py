"""Which place of the gateway a request asks for, by method and path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.wire.call import Step


@dataclass(frozen=True, slots=True)
class Place:
    """One method at one path. `steps` are what its calls go through once the place is known."""

    method: str
    pattern: str
    steps: tuple[Step, ...]
    max_body_bytes: int
    what: object = None
    """What the last step serves: an endpoint's Route, or the kind of completion."""


class Paths:
    """All places. A segment `{name}` takes one segment, `{name*}` all that are left."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._exact: dict[str, dict[str, Place]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Place]]] = []
        by_pattern: dict[str, dict[str, Place]] = {}
        for place in places:
            by_pattern.setdefault(place.pattern, {})[place.method] = place
        for pattern, methods in by_pattern.items():
            if "{" in pattern:
                self._patterns.append((_expression(pattern), methods))
            else:
                self._exact[pattern] = methods

    def find(self, method: str, path: str) -> tuple[Place, Mapping[str, str]]:
        """The place and the values of its pattern.

        Raises:
            ApiError: 404 where nothing is, 405 where the method is another.
        """
        methods = self._exact.get(path)
        values: Mapping[str, str] = {}
        if methods is None:
            methods, values = self._match(path)
        if methods is None:
            raise ApiError(404, f"There is nothing at {_shown(path)}.", "unknown_url")
        place = methods.get(method)
        if place is None:
            allowed = ", ".join(sorted(methods))
            message = f"{method} is not allowed at {_shown(path)}; allowed: {allowed}."
            raise ApiError(405, message, "method_not_allowed", headers={"allow": allowed})
        return place, values

    def _match(self, path: str) -> tuple[dict[str, Place] | None, Mapping[str, str]]:
        for expression, methods in self._patterns:
            found = expression.fullmatch(path)
            if found is not None:
                values = {name: unquote(value, errors="replace") for name, value in found.groupdict().items()}
                return methods, values
        return None, {}


def _expression(pattern: str) -> re.Pattern[str]:
    segments = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
    return re.compile(re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", segments))


def _shown(path: str) -> str:
    """The path as an error may repeat it: short, and without what a terminal would act on."""
    return ascii(path[:200])[1:-1]
