"""The settings document of a pool: one JSON value that the instance's code and the queue worker read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_fleet.planning.plan import Choice, PoolPlan
from llm_fleet_constructs.boot.engine_arguments import (
    artifacts_folder,
    artifacts_key,
    engine_arguments,
    engine_environment,
)

VERSION = 1
"""Of the document's shape; on_instance/settings.py refuses another."""
ENGINE_PORT = 8000
"""Of the first replica; the others follow it."""
LAUNCH_HOOK = "launch"
TERMINATE_HOOK = "drain"
LONGEST_HOOK_S = 7200
"""EC2 Auto Scaling takes 30 to 7200 s."""
CONTAINER_STOP_MARGIN_S = 10
UNIT_STOP_MARGIN_S = 30
HOOK_MARGIN_S = 60


@dataclass(frozen=True)
class PoolSurroundings:
    """Names of what the instances of a pool talk to. Tokens are welcome."""

    pattern: str
    """The pattern's name, a dimension of every own metric."""
    region: str
    """Where all of it is."""
    weights_bucket: str
    """The cache of weights and compiled artefacts."""
    queue_url: str
    """Where the pool's work waits."""
    dead_letter_queue_url: str
    """Where poison goes."""
    registry_table: str
    """Where workers say that they are alive."""
    batch_table: str
    """State of batches."""
    batch_files_bucket: str
    """Input of batches."""
    batch_results_bucket: str
    """Results, one object a line."""
    log_group: str
    """Where the journal goes."""
    metrics_namespace: str = "LlmFleet"
    """Of the worker's metrics. Default LlmFleet."""
    worker_image: str | None = None
    """The worker's container image. Default: none; instances then serve without a worker: they complete their hooks
    themselves, and nobody does batches.
    """


@dataclass(frozen=True)
class StopTimes:
    """Nested time limits of a drain, each inside the next: engine < container < unit < hook."""

    engine_s: int
    """What running requests get."""

    @classmethod
    def within_hook(cls, drain_s: int) -> StopTimes:
        """Of a wanted drain; shortened where the hook would otherwise pass its largest value."""
        return cls(min(drain_s, LONGEST_HOOK_S - HOOK_MARGIN_S))

    @property
    def container_s(self) -> int:
        """Until docker kills the container."""
        return self.engine_s + CONTAINER_STOP_MARGIN_S

    @property
    def unit_s(self) -> int:
        """Until systemd kills what is left."""
        return self.engine_s + UNIT_STOP_MARGIN_S

    @property
    def hook_s(self) -> int:
        """Heartbeat time-out of the terminate hook."""
        return self.engine_s + HOOK_MARGIN_S


def pool_settings(pool: PoolPlan, around: PoolSurroundings) -> dict[str, Any]:
    """The document."""
    stop = StopTimes.within_hook(pool.scaling.drain_seconds)
    return {
        "version": VERSION,
        "pattern": around.pattern,
        "pool": pool.role,
        "region": around.region,
        "queue_url": around.queue_url,
        "dead_letter_queue_url": around.dead_letter_queue_url,
        "registry_table": around.registry_table,
        "batch_table": around.batch_table,
        "batch_files_bucket": around.batch_files_bucket,
        "batch_results_bucket": around.batch_results_bucket,
        "weights_bucket": around.weights_bucket,
        "log_group": around.log_group,
        "metrics_namespace": around.metrics_namespace,
        "worker_image": around.worker_image,
        "hooks": {
            "launch": LAUNCH_HOOK,
            "launch_seconds": pool.scaling.launch_hook_seconds,
            "terminate": TERMINATE_HOOK,
            "drain_seconds": stop.engine_s,
        },
        "engine": {
            "name": pool.engine.name,
            "version": pool.engine.version,
            "image": pool.engine.image,
            "vendor": pool.vendor,
            "port": ENGINE_PORT,
            "environment": engine_environment(pool.engine),
            "artifacts_folder": artifacts_folder(pool.engine),
        },
        "model": {
            "served_model_name": pool.served_model_name,
            "repository": pool.weights.repository,
            "revision": pool.weights.revision,
            "token_secret": pool.weights.token_secret_name if pool.weights.gated else None,
        },
        "instance_types": {choice.instance_type: _instance_type(pool, choice, stop) for choice in pool.choices},
    }


def artifact_keys(pool: PoolPlan) -> list[str]:
    """Where the pool's compiled artefacts lie in the cache, one place a choice; none where nothing is compiled."""
    stop = StopTimes.within_hook(pool.scaling.drain_seconds)
    keys = (artifacts_key(pool, engine_arguments(pool, choice, stop.engine_s)) for choice in pool.choices)
    return sorted({key for key in keys if key is not None})


def _instance_type(pool: PoolPlan, choice: Choice, stop: StopTimes) -> dict[str, Any]:
    arguments = engine_arguments(pool, choice, stop.engine_s)
    return {
        "replicas": choice.replicas,
        "tensor_parallel": choice.tensor_parallel,
        "max_num_seqs": choice.max_num_seqs,
        "capacity_weight": choice.capacity_weight,
        "arguments": arguments,
        "artifacts_key": artifacts_key(pool, arguments),
    }
