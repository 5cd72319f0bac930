"""The request inside a line of a batch's input file: its own bytes, not a copy made of them.

Parsing and writing JSON anew changes what it cannot hold: large integers, repeated keys, escapes of half characters.
"""

from __future__ import annotations

import json
import re

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


class BadLineError(ValueError):
    """A line that holds no request."""


def request_of(line: bytes) -> bytes:
    """The value of the line's `body`.

    Raises:
        BadLineError: the line is no JSON object with an object `body`.
    """
    try:
        text = line.decode()
        at = _after_space(text, 0)
        if text[at] != "{":
            raise BadLineError("the line is no JSON object")
        body: tuple[int, int] | None = None
        while text[at] != "}":
            key, at = _DECODER.raw_decode(text, _after_space(text, at + 1))
            at = _after_space(text, at)
            if text[at] != ":":
                raise BadLineError("the line is no JSON object")
            start = _after_space(text, at + 1)
            value, at = _DECODER.raw_decode(text, start)
            if key == "body":
                body = (start, at) if isinstance(value, dict) else None
            at = _after_space(text, at)
            if text[at] not in ",}":
                raise BadLineError("the line is no JSON object")
    except (UnicodeDecodeError, json.JSONDecodeError, IndexError, RecursionError) as error:
        raise BadLineError(f"the line is no JSON: {error}") from error
    if body is None:
        raise BadLineError("the line has no body that is a JSON object")
    return text[body[0] : body[1]].encode()


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
