"""The endpoints that engines answer: what a body may say, and what the gateway reads of it.

Only what routing, limits and the stream need is read and checked here; the engine checks the rest, on the bytes that
the client sent. Of a name that stands twice the last one counts, as it does for the engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args
from zlib import crc32

import orjson

from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.gateway.settings import PoolSettings
from llm_fleet.gateway.token_estimate import estimate, plain_chat
from llm_fleet.routing import SERVICE_TIERS, Budget, Priority

MAX_CHOICES = 128
"""Largest `n`: OpenAI's own."""
MAX_COMPLETION_TOKENS = 10_000_000
"""Beyond any context: more is a mistake, and numbers stay small."""
PREFIX_BYTES = 1024
"""Of the prompt, where no session is named: requests that begin alike share an engine's prefix cache."""
SESSION_HEADER = b"x-llm-fleet-session"
PRIORITY_HEADER = b"x-llm-fleet-priority"
BUDGET_HEADER = b"x-llm-fleet-budget"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One kind of completion."""

    path: str
    prompt: str
    """The member that holds the prompt; it must be there."""
    streams: bool
    ends_with_done: bool = False
    """Whether a whole stream ends with the event [DONE]."""


ENDPOINTS = (
    Endpoint("/v1/chat/completions", "messages", streams=True, ends_with_done=True),
    Endpoint("/v1/completions", "prompt", streams=True, ends_with_done=True),
    Endpoint("/v1/responses", "input", streams=True),
    Endpoint("/v1/embeddings", "input", streams=False),
)


@dataclass(slots=True)
class Wanted:
    """What a request asks for, as far as the gateway needs to know."""

    endpoint: Endpoint
    model: str
    stream: bool
    priority: Priority
    budget: Budget
    prompt_tokens: int
    """Estimated."""
    output_tokens: int
    """Maximum completion, or what is expected where none is set."""
    tokens: int
    """Both, at most the longest context: an estimate alone refuses nothing."""
    affinity: int | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the pools together serve it."""

    name: str
    expected_output_tokens: int
    longest_tokens: int


def models_of(pools: Iterable[PoolSettings]) -> dict[str, Model]:
    """The models that the pools serve, by name."""
    found: dict[str, Model] = {}
    for pool in pools:
        name = pool.served_model_name
        seen = found.get(name) or Model(name, pool.expected_output_tokens, pool.max_model_len_tokens)
        expected = min(seen.expected_output_tokens, pool.expected_output_tokens)
        found[name] = Model(name, expected, max(seen.longest_tokens, pool.max_model_len_tokens))
    return found


def read(
    endpoint: Endpoint,
    body: bytes | bytearray,
    headers: Mapping[bytes, bytes],
    key: ApiKey,
    models: Mapping[str, Model],
) -> Wanted:
    """Read a body.

    Raises:
        ApiError: 400 naming what is wrong with it; 404 where the model is not served.
    """
    try:
        facts: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is no valid JSON: {str(error)[:200]}.", "invalid_json") from None
    if type(facts) is not dict:
        raise ApiError(400, "The body must be a JSON object.", "invalid_json")
    name = facts.get("model")
    model = models.get(name) if isinstance(name, str) else None
    if model is None:
        raise _no_model(name, models)
    prompt: object = facts.get(endpoint.prompt)
    chat_bytes = plain_chat(prompt) if endpoint.prompt == "messages" else None
    if chat_bytes is None:
        _check_prompt(prompt, endpoint.prompt)
    _check_numbers(facts)
    stream = facts.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", stream, "true or false")
    if stream and not endpoint.streams:
        raise ApiError(400, f"{endpoint.path} does not stream.", "invalid_value", "stream")
    priority, budget = _service(facts, headers, key)
    needs = estimate(endpoint.path, facts, chat_bytes)
    tokens = needs.tokens(model.expected_output_tokens, model.longest_tokens)
    if tokens > model.longest_tokens:
        raise _too_long(model, tokens, needs.max_output_tokens or 0)
    return Wanted(
        endpoint,
        model.name,
        bool(stream),
        priority,
        budget,
        needs.prompt_tokens,
        max(0, tokens - needs.prompt_tokens) if needs.max_output_tokens is None else needs.max_output_tokens,
        tokens,
        _affinity(facts, headers, prompt, chat_bytes is not None),
    )


def _too_long(model: Model, tokens: int, output_tokens: int) -> ApiError:
    message = (
        f"This model's maximum context length is {model.longest_tokens} tokens, and the request needs at least "
        f"{tokens} ({output_tokens} of them for the completion). Shorten the prompt or lower the maximum."
    )
    return ApiError(400, message, "context_length_exceeded")


def _no_model(name: object, models: Mapping[str, Model]) -> ApiError:
    if name is None:
        return ApiError(400, "You must provide a model parameter.", "missing_required_parameter", "model")
    if not isinstance(name, str):
        return _wrong("model", name, "a string")
    served = ", ".join(sorted(models))
    return ApiError(404, f"The model {name[:200]!r} does not exist; there is: {served}.", "model_not_found", "model")


def _check_prompt(prompt: object, name: str) -> None:
    if prompt is None:
        raise ApiError(400, f"Missing required parameter: {name!r}.", "missing_required_parameter", name)
    if name == "messages":
        if not isinstance(prompt, list):
            raise _wrong(name, prompt, "a list of messages")
        for index, message in enumerate(cast("list[object]", prompt)):
            role = cast("dict[str, object]", message).get("role") if isinstance(message, dict) else None
            if not isinstance(role, str):
                raise _wrong(f"messages[{index}]", cast("object", message), "an object with a role")
    elif not isinstance(prompt, str | list):
        raise _wrong(name, prompt, "a string or a list")
    if not prompt and (name == "messages" or not isinstance(prompt, str)):
        raise ApiError(400, f"{name} is empty: there is nothing to answer.", "empty_array", name)


def _check_numbers(facts: dict[str, Any]) -> None:
    for name, largest in _NUMBERS:
        value = facts.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= largest):
            raise _wrong(name, value, f"a whole number from 1 to {largest}")


_NUMBERS = (
    ("max_tokens", MAX_COMPLETION_TOKENS),
    ("max_completion_tokens", MAX_COMPLETION_TOKENS),
    ("max_output_tokens", MAX_COMPLETION_TOKENS),
    ("n", MAX_CHOICES),
)


def _service(facts: dict[str, Any], headers: Mapping[bytes, bytes], key: ApiKey) -> tuple[Priority, Budget]:
    """How soon and at what price: the headers', the service tier's, the key's own, in this order."""
    priority: Priority = key.priority or "default"
    budget: Budget = key.budget or "moderate"
    tier = facts.get("service_tier")
    if tier is not None:
        if not isinstance(tier, str) or tier not in SERVICE_TIERS:
            raise _wrong("service_tier", tier, ", ".join(SERVICE_TIERS))
        if tier != "auto":  # "auto" leaves the choice to whoever set up the key
            priority, budget = SERVICE_TIERS[tier]
    if PRIORITY_HEADER in headers:
        priority = cast("Priority", _word(headers, PRIORITY_HEADER, get_args(Priority)))
    if BUDGET_HEADER in headers:
        budget = cast("Budget", _word(headers, BUDGET_HEADER, get_args(Budget)))
    return priority, budget


def _word(headers: Mapping[bytes, bytes], name: bytes, allowed: tuple[str, ...]) -> str:
    value = headers[name].decode("latin-1").strip().lower()
    if value not in allowed:
        raise _wrong(name.decode(), value, ", ".join(allowed))
    return value


def _affinity(facts: dict[str, Any], headers: Mapping[bytes, bytes], prompt: Any, plain_chat: bool) -> int | None:
    """The session's key: the same for every gateway task, so not Python's own hash."""
    session = headers.get(SESSION_HEADER)
    if session:
        return crc32(session)
    for name in ("prompt_cache_key", "user"):
        value = facts.get(name)
        if isinstance(value, str) and value:
            return crc32(value.encode("utf-8", "surrogatepass"))
    text = "\n".join([message["content"] for message in prompt[:2]]) if plain_chat else _beginning(prompt)
    return crc32(text[:PREFIX_BYTES].encode("utf-8", "surrogatepass")) if text else None


def _beginning(prompt: object) -> str:
    """How the prompt begins: of a chat its first two messages, so that its later turns go where the first went."""
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list):
        return ""
    parts: list[str] = []
    for item in cast("list[object]", prompt)[:2]:
        content = cast("dict[str, object]", item).get("content") if isinstance(item, dict) else item
        if isinstance(content, list):
            for part in cast("list[object]", content)[:2]:
                text = cast("dict[str, object]", part).get("text") if isinstance(part, dict) else None
                parts.append(text if isinstance(text, str) else "")
        elif isinstance(content, str):
            parts.append(content)
    return "\n".join(parts)


def _wrong(param: str, value: object, allowed: str) -> ApiError:
    shown = orjson.dumps(value, default=str).decode("utf-8", "replace")[:60] if _is_plain(value) else _kind(value)
    return ApiError(400, f"Invalid value for {param!r}: {shown}; it must be {allowed}.", "invalid_value", param)


def _is_plain(value: object) -> bool:
    return value is None or (isinstance(value, str | float | bool)) or (isinstance(value, int) and abs(value) < 2**53)


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "a number out of range"
