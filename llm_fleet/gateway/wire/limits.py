"""What clients may hold and how long, and what they are told beyond it."""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.gateway.errors import ApiError, retry_after

NEVER = float("inf")


@dataclass(frozen=True)
class WireLimits:
    """Bounds of what clients may hold. Times are seconds."""

    connections: int = 4096
    head_bytes: int = 32_768
    head_s: float = 15.0
    """From the first byte of a head to its end."""
    body_silence_s: float = 30.0
    """Between two pieces of a body."""
    idle_s: float = 910.0
    """Longer than the load balancer keeps an idle connection (900): the one that closes first must be the balancer."""
    stalled_s: float = 120.0
    """How long a client may leave unread what was written to it."""
    linger_s: float = 5.0
    """How long a body is read away after its request was refused: a reset would destroy the answer."""
    first_body_bytes: int = 1 << 20
    """Of a body before its route is known: what came in one read with its head."""
    check_every_s: float = 1.0
    """Time-outs are checked this often, for all connections at once: cheaper than a timer for each."""
    buffered_bytes: int = 512 << 20
    """All request bodies held at one time."""


def body_too_large(limit_bytes: int) -> ApiError:
    """413, naming the limit."""
    return ApiError(413, f"The body is larger than {limit_bytes} bytes, the limit here.", "request_too_large")


def shutting_down() -> ApiError:
    """503 of a gateway that ends."""
    return ApiError(503, "The gateway is shutting down; another one answers.", "shutting_down", headers=retry_after(1))


def head_too_large(limit_bytes: int) -> ApiError:
    """431, naming the limit."""
    return ApiError(431, f"The head is larger than {limit_bytes} bytes, the limit.", "headers_too_large")
