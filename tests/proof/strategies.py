"""Requests that nobody in his right mind would send, and some that somebody would, for every endpoint."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.proof.answers import MODEL

PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/models",
    "/v1/files",
    "/v1/batches",
    "/health",
    "/metrics",
)
CROOKED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""The same examples on every run."""
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND")

text = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**40, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, text)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
lone_surrogates = st.sampled_from(["\ud800", "x\udfff", "\udc00\ud800"])


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value of the right type, or one of any other."""
    return st.integers(0, 19).flatmap(lambda n: right if n < 18 else anything if n == 18 else lone_surrogates)


messages = st.lists(
    mostly(
        st.fixed_dictionaries(
            {"role": mostly(st.sampled_from(["system", "user", "assistant", "tool"])), "content": mostly(text)},
            optional={"name": anything, "tool_calls": anything},
        )
    ),
    max_size=4,
)
COMMON = {
    "max_tokens": mostly(st.integers(1, 50)),
    "max_completion_tokens": mostly(st.integers(1, 50)),
    "stream": mostly(st.booleans()),
    "stream_options": mostly(st.fixed_dictionaries({}, optional={"include_usage": mostly(st.booleans())})),
    "service_tier": mostly(st.sampled_from(["auto", "default", "flex", "priority"])),
    "n": mostly(st.integers(1, 3)),
    "temperature": mostly(st.floats(0, 2)),
    "stop": mostly(st.one_of(text, st.lists(text, max_size=2))),
    "user": mostly(text),
    "metadata": anything,
    "prompt_cache_key": mostly(text),
}
model = mostly(st.just(MODEL))
BODIES: dict[str, st.SearchStrategy[Any]] = {
    "/v1/chat/completions": st.fixed_dictionaries({"model": model, "messages": mostly(messages)}, optional=COMMON),
    "/v1/completions": st.fixed_dictionaries({"model": model, "prompt": mostly(text)}, optional=COMMON),
    "/v1/responses": st.fixed_dictionaries(
        {"model": model, "input": mostly(text)}, optional={**COMMON, "max_output_tokens": mostly(st.integers(1, 50))}
    ),
    "/v1/embeddings": st.fixed_dictionaries(
        {"model": model, "input": mostly(st.one_of(text, st.lists(text, max_size=3)))},
        optional={"dimensions": anything, "encoding_format": mostly(st.sampled_from(["float", "base64"]))},
    ),
    "/v1/batches": st.fixed_dictionaries(
        {
            "input_file_id": mostly(st.sampled_from(["file-" + "0" * 24, "file-x", "../x"])),
            "endpoint": mostly(st.sampled_from(["/v1/chat/completions", "/v1/embeddings"])),
            "completion_window": mostly(st.just("24h")),
        },
        optional={"metadata": anything},
    ),
}


def as_json(value: Any) -> bytes:
    """As bytes; lone surrogates stand as escapes or, where they cannot, as what no decoder takes."""
    return json.dumps(value).encode()


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Sometimes as it is, else cut short, or with bytes put in that belong nowhere."""
    data = draw(whole)
    how = draw(st.sampled_from(["whole"] * 5 + ["cut", "inserted", "not UTF-8", "doubled"]))
    at = draw(st.integers(0, len(data)))
    if how == "cut":
        return data[:at]
    if how == "inserted":
        return data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
    if how == "not UTF-8":
        return (
            data[:at]
            + draw(st.sampled_from([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf"]))
            + data[at:]
        )
    return data + data if how == "doubled" else data


def lines_of(path: str) -> st.SearchStrategy[Any]:
    """Bodies of batch lines for an endpoint."""
    return BODIES[path].filter(lambda body: isinstance(body, dict))


nested = st.builds(
    lambda depth, opening: opening * depth,
    st.sampled_from([10, 1000, 100_000]),
    st.sampled_from([b"[", b'{"a":', b'{"messages":[']),
)
deep_but_whole = st.sampled_from([1000, 50_000]).map(
    lambda depth: b'{"model":"' + MODEL.encode() + b'","messages":' + b"[" * depth + b"]" * depth + b"}"
)


def bodies(path: str) -> st.SearchStrategy[bytes]:
    """Bodies for an endpoint, most of them nearly right."""
    near = BODIES.get(path, anything).map(as_json)
    return st.one_of(broken(near), broken(near), broken(near), nested, deep_but_whole, st.binary(max_size=200))


segment = st.one_of(
    st.sampled_from(
        ["..", ".", "%2e%2e", "%00", "%0d%0aX-Injected:%201", "%ff", "file-1", "batch_1", "content", "cancel"]
    ),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12),
)
targets = st.builds(
    lambda base, more, query: "/".join((base, *more)) + query,
    st.sampled_from((*PATHS, "", "/v1", "/admin", "//v1/models")),
    st.lists(segment, max_size=3),
    st.sampled_from(
        ["", "?", "?limit=1", "?limit=-1", "?limit=1e99", "?limit=x&after=%ff", "?after=" + "a" * 500, "?&&==&"]
    ),
).map(lambda target: target or "/")
header_value = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30)
headers = st.dictionaries(
    st.sampled_from(
        [
            "Content-Type",
            "Accept",
            "Accept-Encoding",
            "X-Request-Id",
            "X-LLM-Fleet-Priority",
            "X-LLM-Fleet-Budget",
            "Cookie",
            "Range",
            "If-None-Match",
            "X-Forwarded-For",
            "Authorization",
            "Connection",
        ]
    ),
    header_value,
    max_size=4,
)
