"""What a request is taken to need, before any tokenizer sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.gateway.token_estimate import TokenEstimate, estimate, plain_chat

CHAT = "/v1/chat/completions"
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(st.sampled_from(["content", "text", "function", "arguments", "x"]), part, max_size=3)
    ),
)


def message(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (CHAT, {"messages": message("x" * 9), "max_tokens": 5}, TokenEstimate(3, 5)),
        (CHAT, {"messages": message("ж" * 4), "max_completion_tokens": 7, "max_tokens": 5}, TokenEstimate(2, 7)),
        (CHAT, {"messages": message([{"type": "text", "text": "abcd"}])}, TokenEstimate(1, None)),
        (CHAT, {"messages": message([{"type": "image_url", "image_url": {"url": "x" * 99}}])}, TokenEstimate(0, None)),
        ("/v1/completions", {"prompt": ["abcd", "efgh"], "max_tokens": 1}, TokenEstimate(2, 1)),
        ("/v1/completions", {"prompt": [5, 6, 7]}, TokenEstimate(3, None)),
        ("/v1/embeddings", {"input": "abcd"}, TokenEstimate(1, 0)),
        ("/v1/responses", {"input": "abcd", "instructions": "efgh", "max_output_tokens": 3}, TokenEstimate(2, 3)),
    ],
)
def test_the_text_of_each_endpoint_counts(path: str, body: dict[str, Any], expected: TokenEstimate):
    assert estimate(path, body) == expected


def test_tools_count_as_the_engine_will_write_them():
    tools = [{"type": "function", "function": {"name": "look", "description": "x" * 400}}]
    assert estimate(CHAT, {"messages": message(""), "tools": tools}).prompt_tokens > 100


def test_what_sets_no_maximum_is_never_too_long_by_what_is_expected():
    assert TokenEstimate(90, None).tokens(500, 100) == 100
    assert TokenEstimate(90, None).tokens(5, 100) == 95
    assert TokenEstimate(120, None).tokens(5, 100) == 100  # it may fit all the same
    assert TokenEstimate(90, 500).tokens(5, 100) == 522  # at 16 bytes a token, the maximum alone is too much
    assert TokenEstimate(404, None).tokens(5, 100) == 101


@given(st.sampled_from([CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses"]), st.data())
def test_no_body_makes_it_raise(path: str, data: st.DataObject):
    names = ["messages", "prompt", "input", "instructions", "tools", "max_tokens", "max_output_tokens"]
    body = {name: data.draw(values) for name in names}
    found = estimate(path, json.loads(json.dumps(body)))
    assert found.prompt_tokens >= 0
    assert found.max_output_tokens is None or found.max_output_tokens >= 0


plain_messages = st.lists(
    st.fixed_dictionaries({"role": st.text(max_size=3), "content": st.text(max_size=2000)}), min_size=1, max_size=4
)


@given(plain_messages | values)
def test_a_plain_chat_counts_as_any_other(messages: Any):
    counted = plain_chat(messages)
    body = {"messages": messages, "prompt": "abc"}
    assert counted is None or estimate(CHAT, body, counted) == estimate(CHAT, body)


@given(plain_messages)
def test_messages_of_role_and_text_are_a_plain_chat(messages: Any):
    assert plain_chat(messages) is not None
    assert plain_chat([*messages, {"role": "user", "content": [{"type": "text", "text": "x"}]}]) is None
