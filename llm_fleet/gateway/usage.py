"""The tokens that an engine says it used, found in the bytes of its answer without reading the rest."""

from __future__ import annotations

import re

import orjson

MARK = b'"usage"'
"""Inside a text the quotes are escaped, so this is always a member."""
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
NAMES = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))
"""Of chat, completions and embeddings; of responses."""


def usage_in(data: bytes) -> tuple[int, int] | None:
    """Prompt and completion tokens by the last usage in the data; None where it says none."""
    at = data.rfind(MARK)
    found = _USAGE.match(data, at) if at >= 0 else None
    if found is None:
        return None
    try:
        usage = orjson.loads(found[1])
    except orjson.JSONDecodeError:
        return None
    for prompt, completion in NAMES:
        if isinstance(usage.get(prompt), int):
            used = usage.get(completion, 0)
            return usage[prompt], used if isinstance(used, int) else 0
    return None
