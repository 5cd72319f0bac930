"""What the gateway reads of a body does not depend on how it reads it."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.gateway.completions import ENDPOINTS, Model, Wanted, read
from llm_fleet.gateway.keys import ApiKey

KEY = ApiKey("aaaaaaaaaaaa", "00", "a test", 0)
MODELS = {"m": Model("m", 100, 4096)}
messages = st.lists(
    st.fixed_dictionaries({"role": st.text(max_size=3), "content": st.text(max_size=1200)}), min_size=1, max_size=4
)


def wanted(body: dict[str, Any]) -> Wanted:
    return read(ENDPOINTS[0], orjson.dumps(body), {}, KEY, MODELS)


@given(messages, st.sampled_from([{}, {"max_tokens": 5}, {"n": 2, "stream": True}, {"instructions": "abc"}]))
def test_a_plain_chat_is_wanted_as_one_whose_messages_have_more_members(
    chat: list[dict[str, Any]], more: dict[str, Any]
):
    named = [{**message, "name": "x" * 99} for message in chat]  # read the general way; a name counts no tokens
    assert wanted({"model": "m", "messages": chat, **more}) == wanted({"model": "m", "messages": named, **more})
