"""Bytes to a port and what comes back: for requests that no client library would send."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from dataclasses import dataclass, field
from typing import Any

import httptools

GUARD_S = 60
"""Without a word from the other side; a hang, however busy the machine is."""


@dataclass
class Reply:
    """One answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    def error(self) -> dict[str, Any]:
        """The error object.

        Raises:
            AssertionError: it is no error in OpenAI's shape.
        """
        try:
            error = json.loads(self.body)["error"]
        except (ValueError, TypeError, KeyError) as problem:
            raise AssertionError(f"{self.status} without an OpenAI error: {self.body[:300]!r}") from problem
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str), error
        assert error["message"], error
        assert isinstance(error["type"], str), error
        assert error["param"] is None or isinstance(error["param"], str), error
        assert error["code"] is None or isinstance(error["code"], str), error
        return error


class Raw:
    """A connection. Answers are read as they come; `closed` once the other side has closed."""

    def __init__(self, port: int, *, receive_buffer_bytes: int = 0) -> None:
        self._socket = socket.socket()
        if receive_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.settimeout(GUARD_S)
        self._socket.connect(("127.0.0.1", port))
        self._parser = httptools.HttpResponseParser(self)
        self._replies: list[Reply] = []
        self._now = Reply()
        self.closed = False

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def trickle(self, data: bytes) -> bool:
        """Send a little; whether the connection is still open."""
        try:
            self._socket.send(data)
            return not self._answered()
        except ConnectionError:
            return False

    def send_while_open(self, piece: bytes, limit_bytes: int) -> int:
        """Send the piece again and again until the other side answers, closes, or the limit: how many bytes went."""
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < limit_bytes and not self._answered():
                if self._ready(select.POLLOUT, 50):
                    sent += self._socket.send(piece[sent % len(piece) :], socket.MSG_DONTWAIT)
        return sent

    def send_while_taken(self, piece: bytes, limit_bytes: int) -> int:
        """Send the piece again and again until nobody takes it any more, or the limit: how many bytes went."""
        sent = 0
        while sent < limit_bytes and self._ready(select.POLLOUT, 2000):
            sent += self._socket.send(piece[sent % len(piece) :], socket.MSG_DONTWAIT)
        return sent

    def _answered(self) -> bool:
        """Whether an answer or the end of the connection has come."""
        return self._ready(select.POLLIN, 0)

    def _ready(self, event: int, wait_ms: int) -> bool:
        poll = select.poll()
        poll.register(self._socket, event)
        return bool(poll.poll(wait_ms))

    def reply(self, method: str = "GET") -> Reply:
        """The next answer.

        Raises:
            ConnectionError: the other side closed without one.
            TimeoutError: it said nothing.
        """
        while not self._replies:
            data = self._socket.recv(65_536)
            if not data:
                self.closed = True
                raise ConnectionResetError(f"closed without an answer; so far {self._now}")
            self._parser.feed_data(data)
            if method == "HEAD" and self._now.status:
                self._replies.append(self._now)
        return self._replies.pop(0)

    def ends(self) -> bytes:
        """Say that nothing more is to come; whatever comes until the other side closes."""
        rest = b""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while data := self._socket.recv(65_536):
                rest += data
        self.closed = True
        return rest

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_message_begin(self) -> None:
        self._now = Reply()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._now.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._now.body += body

    def on_message_complete(self) -> None:
        if self._now.status >= 200:
            self._replies.append(self._now)


def request(method: str, path: str, key: str = "", body: bytes | None = None, **headers: str) -> bytes:
    """A request. Underscores in header names become hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "Host: proof"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (body or b"")


def ask(port: int, data: bytes, method: str = "GET") -> Reply:
    """One request on a connection of its own, and its answer."""
    with Raw(port) as connection:
        connection.send(data)
        return connection.reply(method)


def gauges(port: int) -> dict[str, float]:
    """What the gateway's /metrics says, by name with labels."""
    text = ask(port, request("GET", "/metrics")).body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
