"""The calls that an instance makes to EC2 Auto Scaling, noted: the local cloud takes hooks without a word and lacks
SetInstanceHealth. For AWS_ENDPOINT_URL_AUTO_SCALING.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl


class AutoScalingStandIn:
    """Answers every call; those whose action is in `refused` with that message."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []
        self.refused: dict[str, str] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stand_in = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def completed(self) -> list[tuple[str, str]]:
        """Hooks that were completed, each with its result."""
        return [
            (call["LifecycleHookName"], call["LifecycleActionResult"]) for call in self.of("CompleteLifecycleAction")
        ]

    def of(self, action: str) -> list[dict[str, str]]:
        """The calls of an action."""
        return [call for call in self.calls if call["Action"] == action]

    def __enter__(self) -> AutoScalingStandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stand_in: AutoScalingStandIn


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        stand_in = self.server.stand_in
        call = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        stand_in.calls.append(call)
        action = call["Action"]
        why = stand_in.refused.get(action)
        if why is None:
            self._answer(200, f"<{action}Response><{action}Result/></{action}Response>")
        else:
            self._answer(
                400,
                f"<ErrorResponse><Error><Code>ValidationError</Code><Message>{why}</Message></Error></ErrorResponse>",
            )

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
