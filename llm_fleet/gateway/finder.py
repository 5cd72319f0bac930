"""Where a call goes: from its method and target to its place, and to the layers that stand before that place."""

from __future__ import annotations

from collections.abc import Iterable

from llm_fleet.gateway import completions
from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.http import Route
from llm_fleet.gateway.layers import EVERY, Layer, chain
from llm_fleet.gateway.steps import OpenAnswer
from llm_fleet.gateway.wire.call import Call
from llm_fleet.gateway.wire.paths import Paths, Place

MAX_COMPLETION_BODY_BYTES = 8 << 20
"""Of completions and embeddings."""


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
