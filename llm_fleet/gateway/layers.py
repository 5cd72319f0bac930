"""The layers of the gateway: what a request goes through, in order.

`layers` is the one list. The chain that runs is made of it, so a layer is added, moved or left out there and nowhere
else. Each takes the call, and passes it on, keeps it, or refuses it; see wire/call.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from llm_fleet.gateway.call_meter import Meter
from llm_fleet.gateway.completions import Model
from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.meters import Meters
from llm_fleet.gateway.relays import Relays
from llm_fleet.gateway.steps import (
    BodyLimit,
    EndpointStart,
    Keyed,
    PlacedExchange,
    RateLimit,
    Reading,
    RequestId,
    answer_open,
    whole_body,
)
from llm_fleet.gateway.wire.call import Step
from llm_fleet.gateway.wire.limits import WireLimits

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
    slow senders: WireLimits, kept by wire/connection.py before there is a call). `find` sends a call on to its place.
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
