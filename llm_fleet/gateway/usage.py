"""The tokens that an engine says it used, found in the bytes of its answer without reading the rest."""

from __future__ import annotations

import orjson

MARK = b'"usage"'
"""Inside a text the quotes are escaped, so this is always a member."""
MAX_OBJECTS = 8
"""Inside a usage: the details of its numbers, and room for what engines may add."""
NAMES = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))
"""Of chat, completions and embeddings; of responses."""


def usage_in(data: bytes) -> tuple[int, int] | None:
    """Prompt and completion tokens by the last usage in the data; None where it says none."""
    at = data.rfind(MARK)
    begin = data.find(b"{", at)
    if at < 0 or begin < 0 or data[at + len(MARK) : begin].strip() != b":":
        return None
    end = begin
    for _ in range(MAX_OBJECTS):  # the end of an object inside it is not yet its own
        end = data.find(b"}", end) + 1
        if not end:
            return None
        try:
            usage = orjson.loads(data[begin:end])
        except orjson.JSONDecodeError:
            continue
        for prompt, completion in NAMES:
            if isinstance(usage.get(prompt), int):
                used = usage.get(completion, 0)
                return usage[prompt], used if isinstance(used, int) else 0
        return None
    return None
