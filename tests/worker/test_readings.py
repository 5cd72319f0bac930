"""What the worker reads: a request inside a line, and an engine's figures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_fleet.worker.engine_metrics import EngineLoad, parse_load
from llm_fleet.worker.line_body import BadLineError, request_of

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4)


@settings(max_examples=40)
@given(body=st.dictionaries(st.text(), values), others=st.dictionaries(st.text(), values), ascii_only=st.booleans())
def test_the_request_is_cut_out_of_the_line_byte_for_byte(
    body: dict[str, Any], others: dict[str, Any], ascii_only: bool
) -> None:
    text = json.dumps(body, ensure_ascii=ascii_only, indent=1 if ascii_only else None)
    before = "".join(f"{json.dumps(key)} : {json.dumps(value)} , " for key, value in others.items() if key != "body")
    line = f' {{ {before}"body":\t{text} , "custom_id": "x"}} '
    try:
        raw = line.encode()
    except UnicodeEncodeError:
        return
    assert request_of(raw) == text.encode()


@given(line=st.binary() | st.text().map(str.encode) | values.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_line_holds_it_is_a_request_or_a_bad_line(line: bytes) -> None:
    try:
        request = request_of(line)
    except BadLineError:
        return
    assert isinstance(json.loads(request), dict)


@pytest.mark.parametrize("line", [b"", b"{", b'{"body"', b'{"body":', b'{"body":{}', b'{"body" 1}', b"[" * 100_000])
def test_a_line_that_breaks_off_is_a_bad_line(line: bytes) -> None:
    with pytest.raises(BadLineError):
        request_of(line)


VLLM = """# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="a} b"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:generation_tokens_total{engine="0"} 1.5e+06 1700000000
"""
LLAMA = """llamacpp:tokens_predicted_total 12
llamacpp:requests_processing 1
llamacpp:requests_deferred 5
"""


def test_figures_are_read_under_each_engines_own_names() -> None:
    assert parse_load(VLLM) == EngineLoad(running=7, waiting=2, generated_tokens=1_500_000)
    assert parse_load(LLAMA) == EngineLoad(running=1, waiting=5, generated_tokens=12)


@pytest.mark.parametrize("page", ["", "other_metric 1", "vllm:num_requests_waiting 3", "<html>", "a b c"])
def test_a_page_without_the_figures_is_unknown_and_not_zero(page: str) -> None:
    assert parse_load(page) == EngineLoad()


@given(
    page=st.text()
    | st.lists(st.sampled_from([*VLLM.splitlines(), "vllm:num_requests_running nan", "x{", "}"])).map("\n".join)
)
def test_no_page_stops_the_worker(page: str) -> None:
    load = parse_load(page)
    assert load.running is None or load.running >= 0
