"""What the wire hands to an endpoint, and what an endpoint hands back.

The proxied endpoints (chat, completions, responses, embeddings) do not go through here: they forward bytes as they
come, see exchange.py. Every other endpoint is a coroutine from Request to Response.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from llm_fleet.gateway.keys import ApiKey


@dataclass(frozen=True)
class Request:
    """One request whose head has come. Header names are in lower case; the path carries no query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    key: ApiKey
    """Whose it is."""
    request_id: str
    accepted_at: float
    """time.monotonic() when its head was complete."""
    body: AsyncIterator[bytes]
    """The body in pieces as they arrive, with back-pressure to the sender; stops with BodyTooLargeError past the
    route's limit, with ClientGoneError when the sender leaves.
    """
    path_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of the route's pattern: {"batch_id": ...}."""

    async def read(self) -> bytes:
        """The whole body; only for routes with a small body limit."""
        return b"".join([piece async for piece in self.body])


@dataclass(frozen=True)
class Response:
    """An answer. A body in pieces is sent chunked, with back-pressure from the client."""

    status: int
    body: bytes | AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """An endpoint at a place. `pattern` is a path whose segments may be {names}."""

    method: str
    pattern: str
    endpoint: Endpoint
    max_body_bytes: int = 1 << 20


class BodyTooLargeError(Exception):
    """The body passed the route's limit; the wire answers 413."""


class ClientGoneError(Exception):
    """The sender closed its connection; nobody waits for an answer."""
