"""An instance of a pool: engine and worker as processes, and the metadata service that tells the worker who it is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.cloud import free_port
from tests.proof.processes import START_S, Process, wait_until
from tests.worker.imds_stand_in import REBALANCE, SPOT, TARGET_STATE, ImdsStandIn, instance

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class EngineProcess(Process):
    """The engine stand-in; `order` reaches its control port."""

    def __init__(self, name: str, delay_s: float, environment: Mapping[str, str], folder: Path) -> None:
        self.port, self.control_port = free_port(), free_port()
        ports = ["--port", str(self.port), "--control-port", str(self.control_port)]
        arguments = ["-m", "tests.proof.engine", *ports, "--delay", str(delay_s)]
        super().__init__(name, arguments, environment, folder)

    def order(self, what: str, **mode: Any) -> None:
        """What is one of mode, remember, refuse, accept, reset; see `tests.proof.engine.Orders`."""
        self._call(what, json.dumps(mode).encode())

    def counts(self) -> dict[str, Any]:
        """See `tests.proof.engine.Counts`."""
        return json.loads(self._call("counts"))

    def back_to_normal(self) -> None:
        """As after its start; one that is down stays so."""
        if self.running:
            self.order("mode")

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        def ask() -> bytes | None:
            try:
                with _open(f"http://127.0.0.1:{self.control_port}/{path}", body, timeout=30) as answer:
                    return answer.read()
            except urllib.error.URLError:
                return None

        return wait_until(ask, START_S, f"the control port of {self.name} answers", self.story)


class Instance:
    """All of one instance. Notices reach it as on AWS: as texts of its metadata service."""

    def __init__(
        self,
        name: str,
        instance_type: str,
        group: str,
        engine: EngineProcess,
        settings: Path,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name = name
        self.engine = engine
        self.vanished = False
        self.imds = ImdsStandIn(instance(name, instance_type, group))
        self.imds.__enter__()
        itself = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url, "AWS_EC2_METADATA_DISABLED": "false"}
        arguments = ["-m", "llm_fleet.worker", "--settings", str(settings)]
        self.worker = Process(name, arguments, {**environment, **itself}, folder)

    def give_spot_notice(self) -> None:
        self.imds.texts[SPOT] = json.dumps({"action": "terminate", "time": "2026-01-01T00:02:00Z"})

    def recommend_rebalance(self) -> None:
        self.imds.texts[REBALANCE] = json.dumps({"noticeTime": "2026-01-01T00:00:00Z"})

    def scale_in(self) -> None:
        self.imds.texts[TARGET_STATE] = "Terminated"

    def restart_worker(self) -> None:
        """As systemd does; not where the instance is gone."""
        if not self.vanished and not self.worker.running:
            self.worker.restart()

    def restart_engine(self) -> None:
        """As systemd does; not where the instance is gone."""
        if not self.vanished and not self.engine.running:
            self.engine.restart()

    def vanish(self) -> None:
        """Worker and engine at once, without a word: the host failed."""
        self.vanished = True
        self.worker.kill()
        self.engine.kill()
        self.imds.__exit__(None, None, None)
