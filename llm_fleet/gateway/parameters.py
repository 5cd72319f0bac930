"""Parameters of requests for files and batches: checked, and named where they are wrong."""

from __future__ import annotations

from typing import Any

from llm_fleet.gateway.errors import ApiError

LEAST_KEEP_S = 3600
"""OpenAI's least for how long a file is kept; the most is KEEP_S, as here everything goes after 30 days."""


def whole_number(given: Any, name: str, default: int, most: int, least: int = 1) -> int:
    """A parameter as a number.

    Raises:
        ApiError: 400, it is none between `least` and `most`.
    """
    value = given.get(name)
    if value is None:
        return default
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        message = f"Invalid {name!r}: expected a whole number from {least} to {most}, but got {text[:40]!r} instead."
        raise ApiError(400, message, "invalid_value", name)
    return int(text)


def missing_parameter(name: str) -> ApiError:
    """400 for a parameter that must be there."""
    return ApiError(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)


def invalid_value(name: str, value: str, allowed: str) -> ApiError:
    """400 for a parameter that may be a few things only."""
    return ApiError(
        400, f"Invalid value for {name!r}: {value[:80]!r}. Supported values are: {allowed}.", "invalid_value", name
    )
