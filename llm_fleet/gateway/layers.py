"""The layers of the gateway: what a request goes through, in order.

`layers` is the one list. The chain that runs is made of it, so a layer is added, moved or left out there and nowhere
else. Each takes the call, and passes it on, keeps it, or refuses it; see wire/call.py.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

from llm_fleet.gateway import completions
from llm_fleet.gateway.completions import Endpoint, Model
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.exchange import Exchange, Relays
from llm_fleet.gateway.http import Route
from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.meters import FinishedRequest, Meters
from llm_fleet.gateway.wire import heads
from llm_fleet.gateway.wire.call import WAIT, Call, Step
from llm_fleet.gateway.wire.endpoint import EndpointCall
from llm_fleet.gateway.wire.paths import Paths, Place
from llm_fleet.gateway.wire.server import WireLimits, body_too_large
from llm_fleet.routing import NoRoute

MAX_COMPLETION_BODY_BYTES = 8 << 20
"""Of completions and embeddings."""

Kind = Literal["open", "endpoint", "completion"]
"""Of a place: answered to anyone; a coroutine for whoever has a key; passed to an engine."""
EVERY: tuple[Kind, ...] = ("open", "endpoint", "completion")
KEYED: tuple[Kind, ...] = ("endpoint", "completion")


@dataclass(frozen=True)
class Layer:
    """One layer. `kinds` are the places it stands before; none: it stands before the place is known."""

    name: str
    step: Step
    why_here: str
    kinds: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Services:
    """What the layers work with."""

    keys: KeyStore
    limits: Limits
    meters: Meters
    relays: Relays
    models: Mapping[str, Model]
    wire: WireLimits


def layers(services: Services, find: Step) -> list[Layer]:
    """The layers in order, after those of the connection itself (limits of connections, heads, pipelined requests and
    slow senders: WireLimits, kept by wire/server.py before there is a call). `find` sends a call on to its place.
    """
    meter, key = Meter(services.meters, services.limits), Keyed(services.keys)
    sized, limited = BodyLimit(), RateLimit(services.limits)
    reading, placing = Reading(services.models), PlacedExchange(services.relays)
    return [
        Layer("meter", meter.begin, "first: an answer of any later layer is counted and logged, refusals too"),
        Layer("request id", RequestId().give, "before all that may refuse: an error can be asked about by its id"),
        Layer("place", find, "cheapest refusal (404, 405), and it says which of the layers below apply"),
        Layer("open answer", answer_open, "health and metrics hold no secret and must work without a key", ("open",)),
        Layer("key", key.check, "before the body is read: strangers may not make us hold megabytes", KEYED),
        Layer("body limit", sized.check, "by the announced length, before the sender is told to go on", KEYED),
        Layer("rate of requests", limited.admit_request, "an endpoint's work starts in the next layer", ("endpoint",)),
        Layer("endpoint", EndpointStart(services.wire).start, "reads its body itself, in pieces", ("endpoint",)),
        Layer(
            "body",
            whole_body,
            "routing reads the body, and it can be sent twice only when it is whole",
            ("completion",),
        ),
        Layer(
            "read",
            reading.read,
            "limits and routing go by what it says; the engine gets the same bytes",
            ("completion",),
        ),
        Layer(
            "rate limit",
            limited.admit_tokens,
            "needs the tokens; before routing, so that who is over his limit "
            "neither takes a place in the waiting room nor wakes a pool",
            ("completion",),
        ),
        Layer("exchange", placing.start, "last: pool, place, engine, answer", ("completion",)),
    ]


def chain(found: Iterable[Layer], kind: Kind | None) -> tuple[Step, ...]:
    """The steps before a place of this kind; None: those before the place is known."""
    return tuple(layer.step for layer in found if (not layer.kinds if kind is None else kind in layer.kinds))


class Finder:
    """The layer that finds a call's place. Places are given once the layers exist, for they hold their chains."""

    def __init__(self) -> None:
        self._paths = Paths(())
        self._usual: dict[tuple[str, bytes], Place] = {}
        """By method and target, of targets that are a path and no more: most are, and need not be taken apart."""

    def place(self, found: list[Layer], open_answers: Iterable[OpenAnswer], routes: Iterable[Route]) -> None:
        """Take over all places."""
        steps = {kind: chain(found, kind) for kind in EVERY}
        places = [Place("GET", each.path, steps["open"], 0, each) for each in open_answers]
        places += [
            Place(route.method, route.pattern, steps["endpoint"], route.max_body_bytes, route) for route in routes
        ]
        places += [
            Place("POST", each.path, steps["completion"], MAX_COMPLETION_BODY_BYTES, each)
            for each in completions.ENDPOINTS
        ]
        self._paths = Paths(places)
        self._usual = {(each.method, each.pattern.encode()): each for each in places if "{" not in each.pattern}

    def find(self, call: Call) -> None:
        """Split the target, and send the call to its place."""
        place = self._usual.get((call.method, call.target))
        if place is None:
            place = self._search(call)
        else:
            call.path = place.pattern
        call.place = place
        call.max_body_bytes = place.max_body_bytes
        call.go_to(place.steps)

    def _search(self, call: Call) -> Place:
        target = call.target.decode("latin-1")
        if not target.startswith("/"):
            raise ApiError(400, "The target of the request must be a path.", "malformed_request")
        call.path, _, call.query = target.partition("?")
        place, call.parameters = self._paths.find(call.method, call.path)
        return place


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


class Meter:
    """Counts and logs a call when it has ended, and settles what it used of its key's tokens."""

    def __init__(self, meters: Meters, limits: Limits) -> None:
        self._meters = meters
        self._limits = limits

    def begin(self, call: Call) -> None:
        """From here on."""
        call.when_ended = self.end

    def end(self, call: Call) -> None:
        """Settle what its key's limit was charged, and note it for log and meters."""
        exchange = call.exchange
        if call.admitted_tokens and call.key is not None:
            used = used_tokens(exchange)
            self._limits.settle(call.key, call.admitted_tokens, used[0] + used[1])
        self._meters.note(partial(described, call, exchange))


def described(call: Call, exchange: Exchange | None) -> FinishedRequest:
    """All that is known of a call that ended."""
    prompt_tokens, completion_tokens, estimated = used_tokens(exchange)
    accepted_at, ended_at = call.accepted_at, call.ended_at
    leased_at = exchange.leased_at if exchange else None
    first_at = exchange.first_at if exchange else None
    return FinishedRequest(
        request_id=call.request_id,
        key_id=call.key.key_id if call.key else None,
        method=call.method,
        path=call.path[:200],
        model=call.wanted.model if call.wanted else None,
        pool=exchange.pool if exchange else None,
        role=exchange.role if exchange else None,
        reason=exchange.reason if exchange else None,
        worker_id=(exchange.worker_id or None) if exchange else None,
        status=call.status,
        streamed=exchange.wanted.stream if exchange else False,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens_estimated=estimated,
        queue_wait_ms=_ms((leased_at or ended_at) - accepted_at) if exchange else 0.0,
        ttft_ms=None if first_at is None else _ms(first_at - accepted_at),
        total_ms=_ms(ended_at - accepted_at),
        cost_usd=exchange.cost_usd(completion_tokens) if exchange else None,
        attempts=exchange.attempts if exchange else 0,
        error_code=call.error_code or None,
        bytes_in=call.body_bytes,
        bytes_out=call.bytes_out,
    )


def _ms(seconds: float) -> float:
    """Milliseconds with three places; `round` goes through the digits, and takes five times as long."""
    return int(1e6 * seconds + 0.5) / 1e3


def used_tokens(exchange: Exchange | None) -> tuple[int, int, bool]:
    """Prompt and completion tokens that a call used, and whether they are an estimate."""
    if exchange is None or exchange.first_at is None:
        return 0, 0, False
    if exchange.usage is not None:
        return *exchange.usage, False
    return exchange.wanted.prompt_tokens, max(0, exchange.events - 1), True
