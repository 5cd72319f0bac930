"""The lines of an input file, from pieces of it: memory holds one piece and one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_LINE_BYTES = 10 * 1024 * 1024
"""Workers hold a line whole; a prompt of a million tokens has 4 MB."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class InputLine:
    """A line that is not blank."""

    line: int
    """Counted from 0, blank lines left out: the line's number in messages and results."""
    number: int
    """Counted from 1, blank lines too: the line's number for people."""
    offset: int
    """Of its first byte in the file."""
    content: bytes | None
    """Without its end of line; None where it is longer than MAX_LINE_BYTES."""
    end: int
    """Offset after its end of line."""


def read_lines(pieces: Iterable[bytes], offset: int = 0, line: int = 0) -> Iterator[InputLine]:
    """The lines in `pieces`, which begin at `offset`, where `line` lines have been before."""
    held: list[bytes] = []
    held_bytes = 0
    number = 0
    start = position = offset
    for piece in pieces:
        begin = 0
        while True:
            newline = piece.find(b"\n", begin)
            end = newline if newline >= 0 else len(piece)
            held_bytes += end - begin
            if held_bytes <= MAX_LINE_BYTES:
                held.append(piece[begin:end])
            else:
                held.clear()
            if newline < 0:
                break
            begin = newline + 1
            number += 1
            found = _line(line, number, start, held, held_bytes, position + begin)
            if found:
                yield found
                line += 1
            held, held_bytes, start = [], 0, position + begin
        position += len(piece)
    found = _line(line, number + 1, start, held, held_bytes, position)
    if found:
        yield found


def _line(line: int, number: int, start: int, held: list[bytes], size: int, end: int) -> InputLine | None:
    if size > MAX_LINE_BYTES:
        return InputLine(line, number, start, None, end)
    content = b"".join(held).rstrip()
    if start == 0 and content.startswith(BYTE_ORDER_MARK):
        start, content = len(BYTE_ORDER_MARK), content[len(BYTE_ORDER_MARK) :]
    return InputLine(line, number, start, content, end) if content else None
