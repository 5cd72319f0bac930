"""The tokens that an engine told, found in the end of its answer."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.gateway.usage import usage_in

text = st.text('ab{"\\', max_size=3)
details = st.dictionaries(text, st.none() | st.integers(0, 9) | text, max_size=2)
counts = st.integers(0, 2**40)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"usage":{"prompt_tokens":3,"total_tokens":9,"completion_tokens":6}}', (3, 6)),
        (b'{"usage": {"input_tokens": 3, "output_tokens": 6, "total_tokens": 9}}', (3, 6)),
        (b'{"usage" : {"prompt_tokens": 3, "total_tokens": 3}}', (3, 0)),
        (b'data: {"usage":null}\n\ndata: {"a":{"prompt_tokens":3}}\n\n', None),
        (b'{"usage":{"prompt_tokens":1}}, {"usage":{"prompt_tokens":2}}', (2, 0)),
        (b'{"usage":{"prompt_tokens":"3"}}', None),
        (b'{"usage":{"prompt_tokens":3', None),
        (b'{"usage":', None),
        (b"", None),
        (b"{}", None),
    ],
)
def test_the_last_usage_counts_whatever_its_shape(data: bytes, expected: tuple[int, int] | None):
    assert usage_in(data) == expected


@given(counts, counts, details, details)
def test_details_of_the_numbers_do_not_hide_them(
    prompt: int, completion: int, some: dict[str, object], more: dict[str, object]
):
    usage = {"x": some, "prompt_tokens": prompt, "y": {"z": more}, "completion_tokens": completion}
    assert usage_in(orjson.dumps({"usage": usage, "id": "x"})) == (prompt, completion)


@given(st.binary(max_size=99))
def test_no_bytes_make_it_raise(data: bytes):
    usage_in(b'{"usage":{' + data)
