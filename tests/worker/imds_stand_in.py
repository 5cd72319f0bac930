"""A metadata service (IMDSv2 only) on loopback: texts by path, set and removed while it runs.

    with ImdsStandIn({"instance-id": "i-1"}) as imds:
        environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url}
        imds.texts["spot/instance-action"] = '{"action": "terminate"}'

A path that has no text answers 404, as the real one does for a notice that was not given.
"""

from __future__ import annotations

import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

ROOT = "/latest/meta-data/"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
SPOT = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"
TARGET_STATE = "autoscaling/target-lifecycle-state"


def instance(worker_id: str, instance_type: str, group: str, host: str = "127.0.0.1") -> dict[str, str]:
    """What an instance in service reads about itself."""
    return {
        "instance-id": worker_id,
        "instance-type": instance_type,
        "local-ipv4": host,
        "tags/instance/aws:autoscaling:groupName": group,
        TARGET_STATE: "InService",
    }


class ImdsStandIn:
    """The service. `texts` may change at any time."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = dict(texts)
        self.tokens: set[str] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stand_in = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """For AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def expire_tokens(self) -> None:
        """Every token that was given out is refused from now on."""
        self.tokens.clear()

    def __enter__(self) -> ImdsStandIn:
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
    stand_in: ImdsStandIn


class _Handler(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        if self.path != "/latest/api/token" or not self.headers.get(f"{TOKEN_HEADER}-ttl-seconds"):
            self._answer(400, "")
            return
        token = secrets.token_hex(8)
        self._stand_in.tokens.add(token)
        self._answer(200, token)

    def do_GET(self) -> None:
        stand_in = self._stand_in
        text = stand_in.texts.get(self.path.removeprefix(ROOT))
        if self.headers.get(TOKEN_HEADER) not in stand_in.tokens:
            self._answer(401, "")
        elif text is None or not self.path.startswith(ROOT):
            self._answer(404, "")
        else:
            self._answer(200, text)

    @property
    def _stand_in(self) -> ImdsStandIn:
        assert isinstance(self.server, _Server)
        return self.server.stand_in

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
