"""Lines of a file are found wherever the pieces are cut, and none is held that is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.gateway.clerk import input_lines
from llm_fleet.gateway.clerk.input_lines import InputLine, read_lines

contents = st.lists(st.sampled_from([b"\n", b"\r\n", b" ", b"a", b"{}", b"\xef\xbb\xbf"]), max_size=40).map(b"".join)


def cut(content: bytes, size: int, offset: int = 0) -> list[bytes]:
    return [content[start : start + size] for start in range(offset, len(content), size)]


@given(contents, st.integers(1, 20))
def test_every_line_lies_where_it_says(content: bytes, size: int):
    lines = list(read_lines(cut(content, size)))
    assert [line.line for line in lines] == list(range(len(lines)))
    for line in lines:
        assert line.content
        assert content[line.offset : line.offset + len(line.content)] == line.content
    mark = content.removeprefix(b"\xef\xbb\xbf")
    assert [line.content for line in lines] == [each.rstrip() for each in mark.split(b"\n") if each.strip()]


@given(contents, st.integers(1, 20), st.integers(0, 40))
def test_reading_goes_on_from_any_line(content: bytes, size: int, index: int):
    lines = list(read_lines(cut(content, size)))
    if not lines:
        return
    last = lines[index % len(lines)]
    again = list(read_lines(cut(content, size, last.end), last.end, last.line + 1))
    assert [(each.line, each.offset, each.content) for each in again] == [
        (each.line, each.offset, each.content) for each in lines[last.line + 1 :]
    ]


@given(st.integers(1, 30))
def test_a_line_that_is_too_long_is_named_and_not_held(size: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_lines, "MAX_LINE_BYTES", 10)
        lines = list(read_lines(cut(b"a\n" + b"x" * 11 + b"\nb", size)))
    assert lines == [InputLine(0, 1, 0, b"a", 2), InputLine(1, 2, 2, None, 14), InputLine(2, 3, 14, b"b", 15)]
