"""One HTTP request to an engine: bounded in time and size, and another thread may cancel it.

A connection for each request: the engine is on this machine, so a new one costs nothing beside an answer, and no
request ever meets a kept connection that the engine has just closed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from dataclasses import dataclass

CONNECT_TIMEOUT_S = 3
LARGEST_ANSWER_BYTES = 64 << 20
METRICS_TIMEOUT_S = 5


@dataclass(frozen=True)
class Reply:
    """What came back, any status."""

    status: int
    request_id: str
    """The engine's name for the request; empty where it gave none."""
    body: bytes


class EngineFaultError(Exception):
    """No answer. `code` is the name that a line's error carries."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnreachableError(EngineFaultError):
    """Nothing listens there: the request never reached an engine."""

    def __init__(self, message: str) -> None:
        super().__init__("engine_unreachable", message)


class CancelledError(Exception):
    """The request was cancelled by its caller."""


class Call:
    """One request. `send` once; `cancel` at any time, from any thread."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Make `send` raise CancelledError, now or when it comes to it."""
        self._cancelled = True
        open_socket = self._socket
        if open_socket is not None:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def send(self, method: str, path: str, body: bytes, timeout_s: float) -> Reply:
        """Send and read the whole answer within `timeout_s`.

        Raises:
            UnreachableError: no connection.
            EngineFaultError: the connection broke, the time went by, or the answer is no HTTP or too long.
            CancelledError: `cancel` was called.
        """
        deadline = time.monotonic() + timeout_s
        connection = http.client.HTTPConnection(self._host, self._port, timeout=min(CONNECT_TIMEOUT_S, timeout_s))
        try:
            try:
                connection.connect()
            except OSError as error:
                raise UnreachableError(f"no connection to the engine on port {self._port}: {error}") from error
            return self._exchange(connection, method, path, body, deadline)
        except (OSError, http.client.HTTPException) as error:
            if self._cancelled:
                raise CancelledError from error
            if isinstance(error, TimeoutError):
                raise EngineFaultError("engine_timeout", f"no answer within {timeout_s:.0f} s") from error
            raise EngineFaultError("engine_cut", f"the engine broke the connection off: {error!r}"[:200]) from error
        finally:
            connection.close()

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, deadline: float
    ) -> Reply:
        # The response takes the socket away from the connection, so it is kept here.
        open_socket: socket.socket = connection.sock
        self._socket = open_socket
        if self._cancelled:
            raise CancelledError
        open_socket.settimeout(_remaining_s(deadline))
        connection.request(method, path, body or None, {"Content-Type": "application/json", "Connection": "close"})
        with connection.getresponse() as response:
            announced, parts, size = response.length, list[bytes](), 0
            while True:
                open_socket.settimeout(_remaining_s(deadline))
                part = response.read1(65536)
                if not part:
                    break
                parts.append(part)
                size += len(part)
                if size > LARGEST_ANSWER_BYTES:
                    limit = f"{LARGEST_ANSWER_BYTES >> 20} MiB"
                    raise EngineFaultError("engine_answer_too_long", f"the answer is longer than {limit}")
            if announced is not None and size < announced:
                raise http.client.IncompleteRead(b"", announced - size)
            if self._cancelled:  # an answer that ends with its connection looks whole when it was cut here
                raise CancelledError
            return Reply(response.status, response.getheader("x-request-id", ""), b"".join(parts))


def generated_a_token(host: str, port: int, model: str, timeout_s: float) -> bool:
    """Whether the engine answers a one-token completion now: the only thing that proves that it serves."""
    body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 1}).encode()
    try:
        reply = Call(host, port).send("POST", "/v1/completions", body, timeout_s)
        return reply.status == 200 and bool(json.loads(reply.body)["usage"]["completion_tokens"])
    except (EngineFaultError, ValueError, KeyError, TypeError):
        return False


def read_metrics(host: str, port: int) -> str | None:
    """The engine's metrics page; empty where it has none, None where it does not answer."""
    try:
        reply = Call(host, port).send("GET", "/metrics", b"", METRICS_TIMEOUT_S)
    except EngineFaultError:
        return None
    return reply.body.decode(errors="replace") if reply.status == 200 else ""


def _remaining_s(deadline: float) -> float:
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    return remaining_s
