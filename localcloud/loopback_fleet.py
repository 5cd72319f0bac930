"""Gateway, workers and engines of a fleet as real processes on loopback, against the resources of a local cloud."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from llm_fleet.gateway.key_store import create_key
from llm_fleet.gateway.settings import VARIABLE
from llm_fleet.registry import Registry
from localcloud.child import Child, LocalCloudError
from localcloud.cloud import LocalCloud, answers, free_port
from localcloud.cpu_engine import CONTEXT_TOKENS, SLOTS, CpuEngine
from localcloud.settings_documents import SettingsDocuments

START_SECONDS = 60
FIRST_ANSWER_SECONDS = 60


class LoopbackFleet:
    """Starts a pool's engine and worker for each pool, then the gateway; all end with the block, or with this process.

    Of the settings only what loopback needs is changed: `for_worker` and `for_gateway` list it.
    """

    def __init__(self, cloud: LocalCloud, documents: SettingsDocuments, services_log: IO[bytes] | None = None) -> None:
        """`services_log`: where gateway and workers log; default: files in the cloud's folder."""
        self._cloud = cloud
        self._documents = documents
        self._services_log = services_log
        self._running = contextlib.ExitStack()
        self._children: list[Child] = []
        self._port = free_port()
        self.base_url = f"http://127.0.0.1:{self._port}/v1"

    def start_engines(self) -> dict[str, CpuEngine]:
        """Start an engine for each pool. Raises LocalCloudError, as the other starts do."""
        return {
            role: self._running.enter_context(
                CpuEngine(document["model"]["served_model_name"], self._folder / f"engine-{role}.log")
            )
            for role, document in self._documents.pools.items()
        }

    def start_workers(self, engines: dict[str, CpuEngine]) -> None:
        """Start a worker for each pool and wait until it has registered as serving."""
        for role, engine in engines.items():
            document = for_worker(self._documents.pools[role], engine.port)
            path = self._folder / f"settings-{role}.json"
            path.write_text(json.dumps(document))
            words = ["--settings", str(path), "--worker-id", f"loopback-{role}", "--host", "127.0.0.1"]
            words += ["--instance-type", next(iter(document["instance_types"]))]
            child = self._start(f"the worker of {role}", f"worker-{role}", "llm_fleet.worker", words, {})
            registry = Registry(self._cloud.client("dynamodb"), document["registry_table"])

            def serves(registry: Registry = registry, role: str = role) -> bool:
                return any(worker.state == "serving" for worker in registry.workers(role, time.time()))

            child.wait_until(serves, START_SECONDS)

    def start_gateway(self) -> None:
        """Start the gateway and wait until it answers."""
        settings = {VARIABLE: json.dumps(for_gateway(self._documents.gateway))}
        words = ["--host", "127.0.0.1", "--port", str(self._port)]
        child = self._start("the gateway", "gateway", "llm_fleet.gateway", words, settings)
        child.wait_until(lambda: answers(f"http://127.0.0.1:{self._port}/health"), START_SECONDS)

    def make_key(self, name: str) -> str:
        """A new API key's text."""
        return create_key(self._cloud.client("dynamodb"), self._documents.gateway["keys_table"], name)[0]

    def models(self) -> tuple[str, ...]:
        """Names that models are served by."""
        return tuple(dict.fromkeys(pool["served_model_name"] for pool in self._documents.gateway["pools"].values()))

    def wait_for_first_answer(self, api_key: str) -> None:
        """Ask every model for one token until each has given it.

        Raises:
            LocalCloudError: a process ended, or one of them gave none in time; with its last answer.
        """
        deadline = time.monotonic() + FIRST_ANSWER_SECONDS
        for model in self.models():
            while refusal := _refusal(self.base_url, api_key, model):
                self.check()
                if time.monotonic() > deadline:
                    raise LocalCloudError(f"no token of {model} within {FIRST_ANSWER_SECONDS} s: {refusal}")
                time.sleep(0.2)

    def check(self) -> None:
        """Raises LocalCloudError if a worker or the gateway has ended."""
        for child in self._children:
            child.check()

    def stop(self) -> None:
        """Stop the gateway, then the workers, then the engines. Stopping twice is no error."""
        self._running.close()

    def __enter__(self) -> LoopbackFleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _folder(self) -> Path:
        return self._cloud.folder

    def _start(self, name: str, log: str, module: str, words: list[str], settings: dict[str, str]) -> Child:
        environment = {**self._cloud.environment(), **settings}
        child = Child(
            name,
            [sys.executable, "-m", module, *words],
            environment,
            self._services_log or self._folder / f"{log}.log",
        )
        self._running.callback(child.stop)
        self._children.append(child)
        return child


def for_worker(document: dict[str, Any], engine_port: int) -> dict[str, Any]:
    """A pool's document with the engine of this machine, and without waits for gateways on other machines."""
    changed = copy.deepcopy(document)
    changed["engine"]["port"] = engine_port
    for plan in changed["instance_types"].values():
        plan |= {"replicas": 1, "max_num_seqs": SLOTS}
    changed["worker"] = {**changed.get("worker", {}), "linger_s": 0.1, "poll_wait_s": 1}
    return changed


def for_gateway(document: dict[str, Any]) -> dict[str, Any]:
    """The gateway's document with the context that the engine of this machine has."""
    changed = copy.deepcopy(document)
    for pool in changed["pools"].values():
        pool["max_model_len_tokens"] = min(pool["max_model_len_tokens"], CONTEXT_TOKENS)
    return changed


def _refusal(base_url: str, api_key: str, model: str) -> str:
    """What stands in the way of one token; empty where there is nothing."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=FIRST_ANSWER_SECONDS) as answer:
            answer.read()
            return ""
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode(errors='replace')}"
    except OSError as error:
        return str(error)
