"""The calls that an instance makes to EC2 Auto Scaling, noted: the local cloud takes hooks without a word and lacks
SetInstanceHealth. For AWS_ENDPOINT_URL_AUTO_SCALING.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from tests.worker.loopback_server import Handler, LoopbackServer


class AutoScalingStandIn(LoopbackServer):
    """Answers every call; those whose action is in `refused` with that message."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.calls: list[dict[str, str]] = []
        self.refused: dict[str, str] = {}

    def completed(self) -> list[tuple[str, str]]:
        """Hooks that were completed, each with its result."""
        return [
            (call["LifecycleHookName"], call["LifecycleActionResult"]) for call in self.of("CompleteLifecycleAction")
        ]

    def of(self, action: str) -> list[dict[str, str]]:
        """The calls of an action."""
        return [call for call in self.calls if call["Action"] == action]


class _Handler(Handler):
    def do_POST(self) -> None:  # noqa: N802  (http.server looks it up by this name)
        call = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.stand_in.calls.append(call)
        action = call["Action"]
        why = self.stand_in.refused.get(action)
        if why is None:
            self.answer(200, f"<{action}Response><{action}Result/></{action}Response>", "text/xml")
        else:
            error = f"<Error><Code>ValidationError</Code><Message>{why}</Message></Error>"
            self.answer(400, f"<ErrorResponse>{error}</ErrorResponse>", "text/xml")
