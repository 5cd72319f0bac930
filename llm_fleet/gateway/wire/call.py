"""One request on its way: what came, who has it at present, and its answer.

A call goes through its steps in order. A step returns nothing to pass it on, WAIT to keep it (whoever keeps it calls
`proceed` later or answers), and raises ApiError to refuse it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.wire import heads

if TYPE_CHECKING:
    from llm_fleet.gateway.completions import Wanted
    from llm_fleet.gateway.exchange import Exchange
    from llm_fleet.gateway.keys import ApiKey
    from llm_fleet.gateway.wire.connection import Connection
    from llm_fleet.gateway.wire.paths import Place

WAIT = object()
"""A step's word that it keeps the call."""
SMALL_BODY_BYTES = 16_384
"""Bodies up to this are not counted against what the gateway may hold: the limit of connections bounds them."""
CLIENT_LEFT = 499
"""Status in log and meters of a call whose client left before its answer was whole."""

Step = Callable[["Call"], object]
_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})


class Holder(Protocol):
    """Who keeps a call at present, and hears what the client does."""

    def client_left(self) -> None:
        """The connection is gone; nothing can be written any more."""
        ...

    def pause(self) -> None:
        """The client reads more slowly than it is written to."""
        ...

    def resume(self) -> None:
        """The client has caught up."""
        ...

    def expired(self, now: float) -> None:
        """The connection's deadline has passed."""
        ...

    def cut(self) -> None:
        """The gateway ends: answer now, with an error where there is no answer."""
        ...


class Call:
    """One request. Made by the connection as the head comes in; header names are in lower case."""

    # Slots, and every one stored at once: a default of the class would be looked up the slow way at each reading.
    __slots__ = (
        "_head_written",
        "_steps",
        "accepted_at",
        "admitted_tokens",
        "answered",
        "awaits_body",
        "body",
        "body_bytes",
        "buffered_bytes",
        "bytes_out",
        "complete",
        "connection",
        "ended_at",
        "error_code",
        "exchange",
        "headers",
        "holder",
        "http_1_0",
        "keep_alive",
        "key",
        "max_body_bytes",
        "method",
        "parameters",
        "path",
        "place",
        "query",
        "request_id",
        "sink",
        "status",
        "target",
        "wanted",
        "when_ended",
    )

    def __init__(self, connection: Connection, steps: tuple[Step, ...], max_body_bytes: int) -> None:
        self.connection = connection
        self._steps = iter(steps)
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.method = self.path = self.query = self.request_id = self.error_code = ""
        self.parameters: Mapping[str, str] = _NO_PARAMETERS
        self.accepted_at = self.ended_at = 0.0
        self.keep_alive = True
        self.http_1_0 = self.complete = self.awaits_body = self.answered = self._head_written = False
        self.body: bytes | bytearray = b""
        self.max_body_bytes = max_body_bytes
        self.body_bytes = self.buffered_bytes = self.bytes_out = self.status = 0
        self.admitted_tokens = 0
        """Taken of the key's limit, to be settled at the end."""
        self.sink: Callable[[bytes], None] | None = None
        self.holder: Holder | None = None
        self.place: Place | None = None
        self.key: ApiKey | None = None
        self.wanted: Wanted | None = None
        self.exchange: Exchange | None = None
        self.when_ended: Callable[[Call], None] | None = None

    def proceed(self) -> None:
        """Go on with the next step, until one keeps the call or refuses it."""
        if self.answered:
            return
        try:
            while True:  # twice at most: the steps end with the one that finds the call's place, and gives it others
                for step in self._steps:
                    if step(self) is WAIT:
                        return
        except ApiError as error:
            self.refuse(error)
        except Exception as error:
            self.broke(error)

    def go_to(self, steps: tuple[Step, ...]) -> None:
        """Go through these steps after this one, the last of those before."""
        self._steps = iter(steps)

    # What comes in, told by the connection.

    def receive(self, piece: bytes) -> None:
        """A piece of the body. What passes the limit is counted and dropped."""
        self.body_bytes += len(piece)
        if self.answered or self.body_bytes > self.max_body_bytes:
            return
        if self.sink is not None:
            self.sink(piece)
            return
        if not self.body:
            self.body = piece
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += piece
        if self.body_bytes > SMALL_BODY_BYTES:
            self.connection.buffered(self, len(piece))

    def release_body(self) -> None:
        """The body is needed no longer."""
        self.body = b""
        if self.buffered_bytes:
            self.connection.released(self)

    # What goes out.

    def refuse(self, error: ApiError) -> None:
        """Answer with an error, unless an answer has begun."""
        if self.answered:
            return
        self.error_code = error.code
        headers = b"content-type: application/json\r\n" + heads.header_lines(error.headers)
        self.answer(error.status, headers, error.body())

    def broke(self, error: Exception) -> None:
        """A fault of ours: logged, and answered with 500."""
        self.connection.log.fault(error, request_id=self.request_id)
        if self._head_written:
            self.abort()
        else:
            self.refuse(ApiError(500, "The gateway failed at this request; its log has the cause.", "internal_error"))

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Write a whole answer. `headers` are lines with their line ends."""
        if self.answered:
            return
        length = b"content-length: %d\r\n" % len(body)
        self._write(b"".join((self._head(status, headers, length), b"" if self.method == "HEAD" else body)))
        self.end()

    def begin(self, status: int, headers: bytes, first: bytes = b"") -> None:
        """Write the head of an answer whose length is not known, and the first piece of its body."""
        if self.http_1_0:
            self.keep_alive = False
            self._write(self._head(status, headers, b"") + first)
        else:
            self._write(self._head(status, headers, heads.CHUNKED) + heads.chunk(first))

    def write(self, data: bytes) -> None:
        """Write a piece of the body of an answer that was begun."""
        if data:
            self._write(data if self.http_1_0 else b"%x\r\n%b\r\n" % (len(data), data))

    def write_last(self, data: bytes) -> None:
        """Write the last piece of an answer that was begun; the call has ended."""
        self._write(data if self.http_1_0 else heads.chunk(data) + heads.LAST_CHUNK)
        self.end()

    def end(self) -> None:
        """The answer is written: count it, and let the connection take its next request. Once only."""
        if self.answered:
            return
        self.answered = True
        self._count()
        self.connection.call_ended(self)

    def abort(self) -> None:
        """Cut the connection in mid-answer: the client sees that its answer is not whole."""
        self.answered = True
        self._count()
        self.connection.cut()

    def client_left(self) -> None:
        """The connection is gone."""
        if not self.answered:
            self.answered = True
            self.status = CLIENT_LEFT
            self.error_code = "client_left"
            if self.holder is not None:
                self.holder.client_left()
            self._count()

    def _head(self, status: int, headers: bytes, framing: bytes) -> bytes:
        self.status = status
        self._head_written = True
        connection = self.connection
        if not self.complete or connection.ending:
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else heads.CLOSE + b"\r\n"
        line = heads.STATUS_LINES.get(status) or heads.status_line(status)
        if not self.request_id:
            return b"%b%b%b%b" % (line, headers, framing, end)
        return b"%b%b%bx-request-id: %b\r\n%b" % (line, headers, framing, self.request_id.encode(), end)

    def _write(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self.connection.transport.write(data)

    def _count(self) -> None:
        self.ended_at = time.monotonic()
        self.release_body()
        self.holder = self.sink = None
        if self.when_ended is not None:
            self.when_ended(self)
        self.exchange = None  # it knows the call: together they would live until a garbage collection
