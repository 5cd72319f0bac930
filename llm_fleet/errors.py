"""What a user did wrong, as data: where, which value, what is allowed, the nearest right spelling.

InputError            one or many problems in what the user gave; the CLI and app.py print it and exit with 2
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN_CHOICES = 12


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    `where` is a file with line and key path, or the option as typed; `message` says what is wrong;
    `value` is what was given, `allowed` what may stand there, `nearest` the likeliest right spelling.
    """

    where: str
    message: str
    value: str = ""
    allowed: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.message}"]
        if self.value:
            parts.append(f"got {self.value}")
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.nearest:
            parts.append(f"did you mean {self.nearest}?")
        return "; ".join(parts)


class InputError(Exception):
    """A user's mistake. Holds every problem found, so that one run shows them all."""

    def __init__(self, problems: Iterable[Problem] | Problem) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest_of(value: str, allowed: Iterable[str]) -> str:
    """The allowed spelling closest to `value`, or an empty string when none is close."""
    by_folded = {choice.casefold(): choice for choice in allowed}
    folded = value.casefold()
    swapped = [choice for choice in by_folded if sorted(choice) == sorted(folded)]
    inside = sorted(choice for choice in by_folded if folded and folded in choice)
    close = swapped or difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.5) or inside
    return by_folded[close[0]] if close else ""


def unknown_choice(where: str, what: str, value: str, allowed: Iterable[str]) -> Problem:
    """The problem of a value outside a closed list, with the list (shortened) and the nearest entry."""
    choices = sorted(allowed)
    shown = ", ".join(choices[:_SHOWN_CHOICES])
    if len(choices) > _SHOWN_CHOICES:
        shown += f", ... ({len(choices)} in all)"
    return Problem(where, f"unknown {what}", repr(value), shown, nearest_of(value, choices))
