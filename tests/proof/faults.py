"""Faults between the services and the local cloud: a proxy that throttles, delays and cuts what it is told to.

microburst decides each request by chance; its chance is seeded, so a run meets the same dice. Which request meets which
throw depends on the processes' own timing: the schedule repeats exactly, single requests do not.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.cloud import ROOT, free_port
from tests.proof.processes import Process, wait_until

LAUNCHER = Path(__file__).with_name("seeded_microburst.py")
THROTTLE = {"sqs": "ThrottlingException", "s3": "SlowDown", "dynamodb": "ProvisionedThroughputExceededException"}
AWS_FAULTS = ("throttled", "slow", "cut", "answer-lost")

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def rule(service: str, fault: str) -> dict[str, Any]:
    """microburst's rule for a fault of a service; `times` may be added, so many requests it hits at most."""
    always: dict[str, Any] = {"service": service}
    if fault == "throttled":
        return {**always, "probability": 0.4, "error": {"code": THROTTLE[service]}}
    if fault == "slow":
        return {**always, "probability": 0.5, "latency": {"dist": "uniform", "min": 200, "max": 1500}}
    if fault == "cut":
        return {**always, "probability": 0.3, "reset": True}
    # The service did it, and nobody hears so.
    return {**always, "probability": 0.3, "response": {"abort_bytes": 0}}


class FaultProxy:
    """The proxy as a process. `endpoint_url` is what services take for AWS."""

    def __init__(self, upstream: str, seed: int, environment: Mapping[str, str], folder: Path) -> None:
        self._port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{self._port}"
        arguments = [str(LAUNCHER), str(seed), "--host", "127.0.0.1", "--upstream", upstream, "--port", str(self._port)]
        python = str(ROOT / ".venv-cloud" / "bin" / "python")
        self.process = Process("faults", arguments, environment, folder, python=python)
        wait_until(self._healthy, 60, "the fault proxy answers", self.process.story)

    def add(self, service_rule: dict[str, Any]) -> None:
        """Inject by a rule from now on, for as long as it says."""
        self._call("rules", "PATCH", [service_rule])

    def clear(self) -> None:
        self._call("rules", "POST", [])

    def fired(self) -> Counter[str]:
        """How many requests met a fault, as `service action`."""
        counted: Counter[str] = Counter()
        text = self._call("metrics").decode()
        found = re.findall(
            r'^microburst_faults_total\{service="(.*?)",operation=".*?",action="(.*)"\} (\d+)', text, re.M
        )
        for service, action, count in found:
            counted[f"{service} {_fault(action)}"] += int(count)
        return counted

    def stop(self) -> None:
        self.process.kill()

    def _healthy(self) -> bool:
        try:
            return bool(self._call("health"))
        except OSError:
            return False

    def _call(self, path: str, method: str = "GET", document: Any = None) -> bytes:
        body = None if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.endpoint_url}/_microburst/{path}", body, headers, method=method)
        with _open(request, timeout=30) as answer:
            return answer.read()


def _fault(action: str) -> str:
    """Our word for what microburst calls it."""
    for name, word in (("reset", "cut"), ("abort", "answer-lost"), ("latency", "slow")):
        if name in action:
            return word
    return "throttled"
