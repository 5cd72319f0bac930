"""Runs an endpoint of http.py: a coroutine from Request to Response, one task per call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.http import BodyTooLargeError, ClientGoneError, Request, Response, Route
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.gateway.wire import heads
from llm_fleet.gateway.wire.call import Call
from llm_fleet.gateway.wire.limits import body_too_large, shutting_down

HELD_BYTES = 262_144
"""Of a body that the endpoint has not read yet; then its sender has to wait."""


class EndpointCall:
    """The holder of a call while its endpoint runs."""

    def __init__(self, call: Call, route: Route, key: ApiKey, body_silence_s: float) -> None:
        self._call = call
        self._route = route
        self._key = key
        self._silence_s = body_silence_s
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._waits = False
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._whole = call.complete
        self._gone = False
        if call.body:
            self._pieces.append(bytes(call.body))
            self._held_bytes = len(call.body)
            call.release_body()
        if not call.complete:
            call.sink = self._receive
        self._task = asyncio.get_running_loop().create_task(self._run())

    # The client.

    def client_left(self) -> None:
        """Wake whoever waits for the client. The endpoint itself goes on: it may be in the middle of a change."""
        self._gone = True
        self._more.set()
        self._writable.set()

    def pause(self) -> None:
        """The client reads slowly."""
        self._writable.clear()

    def resume(self) -> None:
        """The client caught up."""
        self._writable.set()

    def expired(self, now: float) -> None:
        """No time-out of the wire holds while an endpoint works: its own calls have theirs."""

    def cut(self) -> None:
        """The gateway ends."""
        self._task.cancel()
        if self._call.status:
            self._call.abort()
        else:
            self._call.refuse(shutting_down())

    def _receive(self, piece: bytes) -> None:
        if not piece:
            self._whole = True
        else:
            self._pieces.append(piece)
            self._held_bytes += len(piece)
            if self._held_bytes > HELD_BYTES and not self._waits:
                self._waits = True
                self._call.connection.transport.pause_reading()
        self._more.set()

    async def _body(self) -> AsyncIterator[bytes]:
        call = self._call
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._held_bytes -= len(piece)
                yield piece
            if call.body_bytes > call.max_body_bytes:
                raise BodyTooLargeError
            if self._whole:
                return
            if self._gone or call.answered:
                raise ClientGoneError
            self._more.clear()
            if self._waits:
                call.connection.deadline = asyncio.get_running_loop().time() + self._silence_s
                self._read_on()
            await self._more.wait()

    def _read_on(self) -> None:
        if self._waits and not self._gone:
            self._waits = False
            self._call.connection.transport.resume_reading()

    # The endpoint.

    async def _run(self) -> None:
        call = self._call
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in call.headers.items()}
        request = Request(
            call.method,
            call.path,
            dict(parse_qsl(call.query, keep_blank_values=True)),
            headers,
            self._key,
            call.request_id,
            call.accepted_at,
            self._body(),
            call.parameters,
        )
        try:
            response = await self._route.endpoint(request)
            await self._answer(response)
        except ApiError as error:
            call.refuse(error)
        except BodyTooLargeError:
            call.refuse(body_too_large(call.max_body_bytes))
        except ClientGoneError:
            pass
        except asyncio.CancelledError:
            raise
        except Exception as error:
            call.broke(error)
        finally:
            self._read_on()  # whatever of the body was left unread: the connection's next request comes the same way

    async def _answer(self, response: Response) -> None:
        call = self._call
        headers = heads.header_lines(response.headers)
        if isinstance(response.body, bytes):
            if not self._gone:
                call.answer(response.status, headers, response.body)
            return
        pieces = aiter(response.body)
        try:
            first = await anext(pieces, b"")  # before the head: a failure to read it is still a clean error
            if not self._gone:
                call.begin(response.status, headers, first)
            async for piece in pieces:
                await self._writable.wait()
                if self._gone or call.answered:
                    break
                call.write(piece)
            if not self._gone:
                call.write_last(b"")
        finally:
            if hasattr(pieces, "aclose"):
                await pieces.aclose()  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
