"""Figures that a proof measured: printed, kept with the test, and shown once more at the end of the run."""

from __future__ import annotations

import pytest

FINDINGS = pytest.StashKey[list[str]]()
"""Where the run keeps its lines."""


class Findings:
    """Of one test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def say(self, **facts: object) -> None:
        name = self._request.node.name
        self._request.node.user_properties.extend((fact, str(value)) for fact, value in facts.items())
        line = f"proof {name}: " + ", ".join(f"{fact} {value}" for fact, value in facts.items())
        print(line)
        self._request.config.stash[FINDINGS].append(line)
