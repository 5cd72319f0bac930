"""What the layers do, each a step of a call; `layers.py` says in which order and why.

Each takes the call, and passes it on, keeps it, or refuses it; see wire/call.py.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from llm_fleet.gateway import completions
from llm_fleet.gateway.completions import Endpoint, Model
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.exchange import Exchange
from llm_fleet.gateway.http import Route
from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.relays import Relays
from llm_fleet.gateway.wire import heads
from llm_fleet.gateway.wire.call import WAIT, Call
from llm_fleet.gateway.wire.endpoint import EndpointCall
from llm_fleet.gateway.wire.limits import WireLimits, body_too_large
from llm_fleet.gateway.wire.paths import Place
from llm_fleet.routing import NoRoute


@dataclass(frozen=True)
class OpenAnswer:
    """An answer that needs no key: status, content type and body, made at once."""

    path: str
    answer: Callable[[], tuple[int, str, bytes]]
    inside_only: bool = False
    """Not for requests that a load balancer passed on."""


def answer_open(call: Call) -> object:
    """Answer what is open to anyone."""
    answer = cast("OpenAnswer", cast("Place", call.place).what)
    if answer.inside_only and b"x-forwarded-for" in call.headers:
        raise ApiError(404, f"There is nothing at {call.path}.", "unknown_url")
    status, kind, body = answer.answer()
    call.when_ended = None  # a load balancer asks every few seconds: no news
    call.answer(status, b"content-type: %b\r\n" % kind.encode(), body)
    return WAIT


class RequestId:
    """Gives every call an id: the client's, where it is short and plain."""

    def __init__(self) -> None:
        self._prefix = f"req-{secrets.token_hex(5)}-"
        self._numbers = itertools.count(1)

    def give(self, call: Call) -> None:
        """Unique by the task's random part and a number."""
        given = call.headers.get(b"x-request-id")
        if given is not None and _PLAIN_ID.fullmatch(given):
            call.request_id = given.decode()
        else:
            call.request_id = f"{self._prefix}{next(self._numbers):x}"


_PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


_BEARER = b"bearer "


class Keyed:
    """Refuses whoever has no key."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, call: Call) -> object:
        """A key in memory is found at once; one that was just made is looked up."""
        given = call.headers.get(b"authorization", b"")
        text = given[len(_BEARER) :].decode("latin-1").strip()
        if given[: len(_BEARER)].lower() != _BEARER or not text:
            raise ApiError(401, "Give your API key: Authorization: Bearer <key>.", "missing_api_key")
        call.key = key = self._store.find(text)
        if key is not None:
            return None
        task = asyncio.get_running_loop().create_task(self._look_up(call, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return WAIT

    async def _look_up(self, call: Call, text: str) -> None:
        try:
            call.key = await self._store.find_new(text)
        except ApiError as error:
            call.refuse(error)
            return
        if call.key is None:
            call.refuse(ApiError(401, "There is no such API key.", "invalid_api_key"))
        else:
            call.proceed()


class BodyLimit:
    """Refuses bodies by their length, and tells who asks that the body may come."""

    def check(self, call: Call) -> None:
        """What comes without a length is counted as it comes."""
        headers = call.headers
        announced = 0 if call.complete else int(headers.get(b"content-length", 0))
        if announced > call.max_body_bytes or call.body_bytes > call.max_body_bytes:
            raise body_too_large(call.max_body_bytes)
        expect = headers.get(b"expect")
        if expect is None:
            return
        if expect.lower() != b"100-continue":
            raise ApiError(417, "The only expectation that is met is 100-continue.", "expectation_failed")
        if not call.complete and not call.body_bytes:
            call.connection.transport.write(heads.CONTINUE)


def whole_body(call: Call) -> object:
    """Wait until the body is whole."""
    if call.complete:
        return None
    call.awaits_body = True
    return WAIT


class EndpointStart:
    """Starts an endpoint's coroutine."""

    def __init__(self, wire: WireLimits) -> None:
        self._silence_s = wire.body_silence_s

    def start(self, call: Call) -> object:
        """Hand the call over to it."""
        route = cast("Route", cast("Place", call.place).what)
        call.holder = EndpointCall(call, route, cast("ApiKey", call.key), self._silence_s)
        return WAIT


class Reading:
    """Reads the body of a completion."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def read(self, call: Call) -> None:
        """Once, here."""
        place, key = call.place, call.key
        assert place is not None
        assert key is not None
        assert isinstance(place.what, Endpoint)
        call.wanted = completions.read(place.what, call.body, call.headers, key, self._models)


class RateLimit:
    """Refuses what is above the key's limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def admit_request(self, call: Call) -> None:
        """One request that uses no tokens."""
        key = call.key
        assert key is not None
        wait_s = self._limits.admit(key, 0)
        if wait_s > 0:
            raise _over_limit(key, wait_s)

    def admit_tokens(self, call: Call) -> None:
        """One request with the tokens it may use; what it did not use is given back at its end."""
        wanted, key = call.wanted, call.key
        assert wanted is not None
        assert key is not None
        wait_s = self._limits.admit(key, wanted.tokens)
        if wait_s > 0:
            raise _over_limit(key, wait_s)
        call.admitted_tokens = wanted.tokens


def _over_limit(key: ApiKey, wait_s: float) -> ApiError:
    message = f"The key {key.key_id} is over its limit; try again in {max(1, round(wait_s))} s."
    return ApiError(429, message, "rate_limit_exceeded", headers=retry_after(wait_s))


class PlacedExchange:
    """Chooses the pool and starts the exchange."""

    def __init__(self, relays: Relays) -> None:
        self._relays = relays

    def start(self, call: Call) -> object:
        """Hand the call over to the exchange."""
        wanted = call.wanted
        assert wanted is not None
        decision = self._relays.placing.choose(wanted)
        if isinstance(decision, NoRoute):  # the reading before refuses what it says; the rule has the last word
            raise ApiError(400, f"No pool can serve it: {decision.problem}.", decision.problem)
        call.holder = call.exchange = exchange = Exchange(call, wanted, self._relays)
        exchange.take(decision)
        return WAIT
