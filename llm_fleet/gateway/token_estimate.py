"""How many tokens a request will need, before any tokenizer sees it: the number that routing and limits go by.

A token is taken as four bytes of prompt text, right within some 30 % for English and too low for no language: scripts
of several bytes a letter come out high, so a long request is seldom taken for a short one. Gateway and batch clerk
both estimate here, so that a batch line goes where the same request would go.

    needs = estimate(path, body)
    tokens = needs.tokens(expected_output_tokens, longest_context_tokens)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import orjson

BYTES_PER_TOKEN = 4
"""Of English text under the vocabularies of current models."""
DENSEST_BYTES_PER_TOKEN = 16
"""What is too long even so cannot be served."""
_TEXT_FIELDS = ("prompt", "input", "instructions", "messages")
"""Where the endpoints keep what a model reads: completions, embeddings and responses, responses, chat."""
_TEXT_MEMBERS = frozenset(("content", "text", "arguments", "output", "input_text", "tool_calls", "function"))
"""Members of a message or content part that hold text. Images and audio do not lie in these."""
_MAXIMUM_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Where the endpoints keep the maximum completion; the first that is set wins."""
_MAX_DEPTH = 8
"""Of text inside messages; no real request nests deeper."""


class TokenEstimate(NamedTuple):
    """What a request needs."""

    prompt_tokens: int
    """Estimated, rounded up."""
    max_output_tokens: int | None
    """What the request allows; None where it sets no maximum, 0 for embeddings."""

    @property
    def certain_tokens(self) -> int:
        """What it needs for certain: no tokenizer packs text more densely. Only this may refuse a request."""
        densest = self.prompt_tokens * BYTES_PER_TOKEN // DENSEST_BYTES_PER_TOKEN
        return densest + (self.max_output_tokens or 0)

    def tokens(self, expected_output_tokens: int, longest_context_tokens: int) -> int:
        """Prompt + maximum completion. Above the longest context only where the request certainly is: what is merely
        estimated to pass it may fit, and the engine knows.

        A request that sets no maximum counts with `expected_output_tokens`: an engine answers it within what its
        context leaves.
        """
        if self.certain_tokens > longest_context_tokens:
            return self.certain_tokens
        output_tokens = expected_output_tokens if self.max_output_tokens is None else self.max_output_tokens
        return min(self.prompt_tokens + output_tokens, longest_context_tokens)


def estimate(path: str, body: Mapping[str, Any], messages_bytes: int | None = None) -> TokenEstimate:
    """Of a request body as parsed from JSON; `path` such as /v1/chat/completions. Never raises.

    What has the wrong type counts nothing: the engine says what is wrong with it. `messages_bytes` is what
    `plain_chat` found of the messages; None: they are counted here.
    """
    size = 0
    for name in _TEXT_FIELDS:
        if name in body:
            if messages_bytes is not None and name == "messages":
                size += messages_bytes
            else:
                size += _size(body[name], _MAX_DEPTH)
    tools = body.get("tools")
    if tools:
        size += len(orjson.dumps(tools))  # engines put the definitions into the prompt nearly as they stand
    prompt_tokens = -(-size // BYTES_PER_TOKEN)
    if path.endswith("/embeddings"):
        return TokenEstimate(prompt_tokens, 0)
    return TokenEstimate(prompt_tokens, _maximum(body))


def plain_chat(messages: Any) -> int | None:
    """Bytes of text in messages that all are a role and a text: nearly every chat, and counted at a fifth of the cost.
    None for messages of any other kind, and for none at all.
    """
    chat: list[dict[str, object]] = messages
    if type(chat) is not list or not chat:
        return None
    size = 0
    for message in chat:
        if type(message) is not dict or len(message) != 2:
            return None
        content = message.get("content")
        if type(content) is not str or type(message.get("role")) is not str:
            return None
        size += len(content) if content.isascii() else len(content.encode("utf-8", "surrogatepass"))
    return size


def _maximum(body: Mapping[str, Any]) -> int | None:
    for name in _MAXIMUM_FIELDS:
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _size(value: object, depth: int) -> int:
    """Bytes of text in a value. A token id (completions and embeddings take lists of them) counts as four bytes."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, int):
        return BYTES_PER_TOKEN
    size = 0
    if depth and isinstance(value, list):
        for part in cast("list[object]", value):
            size += _size(part, depth - 1)
    elif depth and isinstance(value, dict):
        for name, part in cast("dict[str, object]", value).items():
            if name in _TEXT_MEMBERS:
                size += _size(part, depth - 1)
    return size
