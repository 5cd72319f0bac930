"""The message of one line of a batch: it says where the line lies, and holds none of its text.

A line may be longer than a message may be, and prompts then lie in one place only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson

VERSION = 1


class NotALineError(ValueError):
    """A message that no gateway of this version sent."""


@dataclass(frozen=True)
class LineMessage:
    """One line of a batch's input file."""

    batch_id: str
    line: int
    """Counted from 0, blank lines left out."""
    custom_id: str
    endpoint: str
    """Path at the engine, such as /v1/chat/completions."""
    file_key: str
    """The input file's key in the batch files bucket."""
    offset: int
    """Of the line's first byte in the file."""
    length: int
    """Bytes of the line, without its end of line."""
    deadline: int
    """Unix second after which nobody wants the answer: the end of the batch's window."""

    def to_body(self) -> str:
        """The message's body."""
        return orjson.dumps({"version": VERSION, **asdict(self)}).decode()

    @classmethod
    def from_body(cls, body: str) -> LineMessage:
        """Of a received body.

        Raises:
            NotALineError: it is none, or of another version.
        """
        try:
            fields = orjson.loads(body)
            if fields.pop("version") != VERSION:
                raise NotALineError(f"message of another version: {body[:200]}")
            message = cls(**fields)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise NotALineError(f"message that is no line of a batch ({error}): {body[:200]}") from error
        for name in ("batch_id", "custom_id", "endpoint", "file_key"):
            if not isinstance(getattr(message, name), str) or not getattr(message, name):
                raise NotALineError(f"message whose {name} is no text: {body[:200]}")
        for name in ("line", "offset", "length", "deadline"):
            number = getattr(message, name)
            if not isinstance(number, int) or not 0 <= number < 2**53:
                raise NotALineError(f"message whose {name} is no count: {body[:200]}")
        return message
