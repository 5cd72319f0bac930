"""A metadata service (IMDSv2 only) on loopback: texts by path, set and removed while it runs.

    with ImdsStandIn({"instance-id": "i-1"}) as imds:
        environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url}
        imds.texts["spot/instance-action"] = '{"action": "terminate"}'

A path that has no text answers 404, as the real one does for a notice that was not given.
"""

from __future__ import annotations

import secrets

from tests.worker.loopback_server import Handler, LoopbackServer

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


class ImdsStandIn(LoopbackServer):
    """The service; `url` is for AWS_EC2_METADATA_SERVICE_ENDPOINT. `texts` may change at any time."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__(_Handler)
        self.texts = dict(texts)
        self.tokens: set[str] = set()

    def expire_tokens(self) -> None:
        """Every token that was given out is refused from now on."""
        self.tokens.clear()


class _Handler(Handler):
    def do_PUT(self) -> None:  # noqa: N802  (http.server looks it up by this name)
        if self.path != "/latest/api/token" or not self.headers.get(f"{TOKEN_HEADER}-ttl-seconds"):
            self.answer(400, "")
            return
        token = secrets.token_hex(8)
        self.stand_in.tokens.add(token)
        self.answer(200, token)

    def do_GET(self) -> None:  # noqa: N802  (http.server looks it up by this name)
        text = self.stand_in.texts.get(self.path.removeprefix(ROOT))
        if self.headers.get(TOKEN_HEADER) not in self.stand_in.tokens:
            self.answer(401, "")
        elif text is None or not self.path.startswith(ROOT):
            self.answer(404, "")
        else:
            self.answer(200, text)
