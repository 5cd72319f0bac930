"""How often the clerk looks and how long it waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

PREFIX = "LLM_FLEET_CLERK_"


@dataclass(frozen=True)
class Pace:
    """In seconds. Each may be set by environment: LLM_FLEET_CLERK_POLL_S, LLM_FLEET_CLERK_LEASE_S and so on."""

    poll_s: float = 5
    """Between two looks at an open batch."""
    lease_s: float = 60
    """After which a batch of a dead clerk is taken over; longer than any one call to AWS with its retries."""
    dead_letters_s: float = 60
    """Between two looks into the dead-letter queues."""
    cancel_wait_s: float = 120
    """How long a cancelled batch waits for the lines that workers are at."""
    back_off_s: float = 60
    """The longest wait before a batch is tried again whose step failed."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Pace:
        """Defaults, but for what is set.

        Raises:
            ValueError: a value is no number above zero.
        """
        given: dict[str, float] = {}
        for each in fields(cls):
            name = PREFIX + each.name.upper()
            if name in environment:
                text = environment[name]
                try:
                    given[each.name] = float(text)
                except ValueError:
                    given[each.name] = 0
                if not 0 < given[each.name] < 1e9:
                    raise ValueError(f"{name} is {text!r}; it must be seconds above zero, or not be set")
        return cls(**given)
