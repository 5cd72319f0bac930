"""Each bad line of an input file is named: number, code, message, parameter."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.gateway.clerk import validation
from llm_fleet.gateway.clerk.input_lines import read_lines
from llm_fleet.gateway.clerk.validation import Validated, validate
from tests.batches.batch_world import CHAT, MODEL, request_line, request_lines


def check(content: bytes) -> Validated:
    return validate(read_lines([content]), CHAT, frozenset({MODEL}), lambda: None)


def line(**changes: Any) -> bytes:
    request = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": MODEL}, **changes}
    return orjson.dumps({name: value for name, value in request.items() if value != "absent"})


def test_a_good_file_has_a_total_a_model_and_no_errors():
    assert check(request_lines(7)) == Validated(7, MODEL, ())


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (b'{"a": "\xff"}', "invalid_json_line", None),
        (b"[" * 5000, "invalid_json_line", None),
        (line(custom_id="absent"), "missing_required_parameter", "custom_id"),
        (line(custom_id=5), "invalid_type", "custom_id"),
        (line(custom_id=""), "invalid_custom_id", "custom_id"),
        (line(custom_id="x" * 513), "invalid_custom_id", "custom_id"),
        (line(custom_id="first"), "duplicate_custom_id", "custom_id"),
        (line(method="GET"), "invalid_method", "method"),
        (line(url="/v1/embeddings"), "url_mismatch", "url"),
        (line(body="absent"), "missing_required_parameter", "body"),
        (line(body=[]), "invalid_type", "body"),
        (line(body={}), "missing_required_parameter", "body.model"),
        (line(body={"model": "gpt-x"}), "model_not_found", "body.model"),
        (line(body={"model": MODEL, "stream": True}), "invalid_request", "body.stream"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, code: str, param: str | None):
    found = check(request_line("first") + b"\n\n" + bad + b"\n" + request_line("last"))
    assert [(error.line, error.code, error.param) for error in found.errors] == [(3, code, param)]
    assert found.errors[0].message


def test_a_line_that_is_too_long_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("llm_fleet.gateway.clerk.input_lines.MAX_LINE_BYTES", 300)
    found = check(request_line("a", "x" * 300))
    assert [(error.line, error.code) for error in found.errors] == [(1, "line_too_long")]


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_a_file_without_lines_is_named(content: bytes):
    assert [error.code for error in check(content).errors] == ["empty_file"]


def test_more_lines_than_allowed_are_named_without_reading_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validation, "MAX_LINES", 10)
    assert check(request_lines(10)).errors == ()
    assert [error.code for error in check(request_lines(11) + b"no json").errors] == ["too_many_tasks"]


def test_only_the_first_hundred_bad_lines_are_shown_and_the_rest_counted():
    errors = check(b"x\n" * 250).errors
    assert [error.line for error in errors] == [*range(1, 101), None]
    assert errors[-1].message.startswith("150 more lines")


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{}", b'{"custom_id":"a"}', request_line("a")]), max_size=8))
def test_no_content_makes_validation_raise(lines: list[bytes]):
    content = b"\n".join(lines)
    assert len(check(content).errors) <= content.count(b"\n") + 2
