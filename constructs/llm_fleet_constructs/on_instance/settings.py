"""The settings document of a pool, as user data left it, and the serving plan of this instance's type."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS_PATH = "/etc/llm-fleet/settings.json"
VERSION = 1
DATA = Path("/mnt/llm")
"""Instance NVMe where the type has some, else a folder of the root volume: disk.sh decides."""
REPORT_TO = Path("/run/llm-fleet")
"""Marks that one step leaves for another; gone after a reboot."""


class FatalError(Exception):
    """Nothing that a retry could mend: the instance gives itself up."""


@dataclass(frozen=True)
class ServingPlan:
    """What this instance type runs. `arguments` are the engine's, without host and port."""

    instance_type: str
    replicas: int
    devices_per_replica: int
    arguments: tuple[str, ...]
    artifacts_key: str | None
    """Prefix of the compiled artefacts in the cache; None where the engine compiles nothing ahead."""


@dataclass(frozen=True)
class Settings:
    """The document, typed. Names are those of its keys."""

    pool: str
    region: str
    launch_hook: str
    launch_hook_s: int
    terminate_hook: str
    drain_s: int
    image: str
    vendor: str
    port: int
    environment: dict[str, str]
    artifacts_folder: str
    served_model_name: str
    repository: str | None
    revision: str | None
    token_secret: str | None
    weights_bucket: str
    worker_image: str | None
    plans: dict[str, ServingPlan]

    def plan_for(self, instance_type: str) -> ServingPlan:
        """The serving plan of a type.

        Raises:
            FatalError: the document has none: the group launched a type that the plan does not know.
        """
        plan = self.plans.get(instance_type)
        if plan is None:
            raise FatalError(f"no serving plan for {instance_type}; the settings know {', '.join(sorted(self.plans))}")
        return plan


def load_settings(path: Path) -> Settings:
    """Read the document. The CDK leaves out keys without a value, so those that may be null may be missing.

    Raises:
        FatalError: it is missing, no JSON, of another version, or lacks a key.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FatalError(f"{path} cannot be read: {error}") from error
    if document.get("version") != VERSION:
        raise FatalError(
            f"{path} has version {document.get('version')!r}, this code reads {VERSION}: user data and bundle differ"
        )
    try:
        return _settings(document)
    except KeyError as error:
        raise FatalError(f"{path} lacks the key {error}") from error


def _settings(document: dict[str, Any]) -> Settings:
    engine, model, hooks = document["engine"], document["model"], document["hooks"]
    return Settings(
        pool=document["pool"],
        region=document["region"],
        launch_hook=hooks["launch"],
        launch_hook_s=hooks["launch_seconds"],
        terminate_hook=hooks["terminate"],
        drain_s=hooks["drain_seconds"],
        image=engine["image"],
        vendor=engine["vendor"],
        port=engine["port"],
        environment=engine["environment"],
        artifacts_folder=engine["artifacts_folder"],
        served_model_name=model["served_model_name"],
        repository=model.get("repository"),
        revision=model.get("revision"),
        token_secret=model.get("token_secret"),
        weights_bucket=document["weights_bucket"],
        worker_image=document.get("worker_image"),
        plans={name: _plan(name, plan) for name, plan in document["instance_types"].items()},
    )


def _plan(name: str, plan: dict[str, Any]) -> ServingPlan:
    return ServingPlan(
        instance_type=name,
        replicas=plan["replicas"],
        devices_per_replica=plan["tensor_parallel"],
        arguments=tuple(plan["arguments"]),
        artifacts_key=plan.get("artifacts_key"),
    )
