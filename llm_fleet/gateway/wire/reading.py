"""What the parser tells of a client's requests, one head and body after the other."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import httptools

from llm_fleet.gateway.wire.call import Call

if TYPE_CHECKING:
    from llm_fleet.gateway.wire.server import Server


class MalformedError(Exception):
    """The request is valid to the parser, and not to us."""


class HeadTooLargeError(Exception):
    """The head passed its limit."""


class RequestReader(asyncio.Protocol):
    """Writes into calls what came of them. Only that: the connection acts on it, outside of the parser.

    A base class and no part: the parser calls these methods a dozen times a request.
    """

    __slots__ = ("_head_bytes", "_parser", "_parsing", "_received_bytes", "_server", "_waiting")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser: httptools.HttpRequestParser | None = None
        self._parsing: Call | None = None
        """The call whose bytes come in at present."""
        self._waiting: list[Call] = []
        """Calls whose heads are whole, in order, none of them begun."""
        self._head_bytes = self._received_bytes = 0

    def on_url(self, url: bytes) -> None:
        call = self._parsing
        assert call is not None
        call.target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        call = self._parsing
        assert call is not None
        if call.accepted_at:
            return  # a trailer: nothing in it may change what the head said
        self._head_bytes += len(name) + len(value) + 4
        name = name.lower()
        headers = call.headers
        if name in headers:
            if name in _SINGLE:
                raise MalformedError(f"the header {name.decode('latin-1')} stands there twice")
            value = headers[name] + b", " + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        call, parser = self._parsing, self._parser
        assert call is not None
        assert parser is not None
        headers = call.headers
        call.accepted_at = time.monotonic()
        call.method = parser.get_method().decode()
        call.keep_alive = parser.should_keep_alive()
        if not call.keep_alive or b"connection" in headers or b"host" not in headers:
            call.http_1_0 = parser.get_http_version() == "1.0"
            call.keep_alive = call.keep_alive and not call.http_1_0
            if b"host" not in headers and not call.http_1_0:
                raise MalformedError("the header host is missing")
        if b"transfer-encoding" in headers and (call.http_1_0 or b"content-length" in headers):
            raise MalformedError("the length of the body is ambiguous")
        if call.method == "CONNECT" or (b"upgrade" in headers and parser.should_upgrade()):
            raise MalformedError("upgrades and tunnels are not served")
        if self._head_bytes > self._server.limits.head_bytes:
            raise HeadTooLargeError
        self._received_bytes = 0
        self._waiting.append(call)

    def on_body(self, piece: bytes) -> None:
        assert self._parsing is not None
        self._parsing.receive(piece)

    def on_message_complete(self) -> None:
        assert self._parsing is not None
        self._parsing.complete = True
        self._parsing = None


_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"expect"})
"""Headers that may stand there once: two of them mean that two readers would understand two requests."""
