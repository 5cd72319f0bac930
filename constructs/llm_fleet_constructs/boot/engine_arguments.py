"""The engine's command line, from a choice of the plan. A version that lacks a flag does not get it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from llm_fleet.planning.plan import Choice, EnginePlan, PoolPlan

KEEP_ALIVE_S = 620
"""How long an engine keeps an idle connection. The gateway's settings name it: the gateway must let go first."""
ENGINE_READY_S = 3600
"""vLLM's own limit on its start, 600 s by default, is too short for large weights and for compiling."""
NEURON_BLOCK_SIZE = 32
HALF_PRECISION_ONLY = re.compile(r"\bT4G?\b", re.IGNORECASE)
"""Turing computes no bfloat16; vLLM refuses it there."""
FLAG_SINCE: Mapping[str, tuple[int, int]] = {
    "--shutdown-timeout": (0, 18),
    "--disable-access-log-for-endpoints": (0, 33),
    "--max-num-queued-reqs": (0, 33),
}
"""Oldest version in whose wheel the flag was read (looked at: 0.16.0, 0.18.0, 0.27.1 and 0.33.0)."""
NXD_ENDS = (0, 24)
"""vLLM on Neuron ran on NxD Inference before this version, on vllm-neuron since: other flags, another place for
what it compiles.
"""


def engine_environment(engine: EnginePlan) -> dict[str, str]:
    """Environment of every engine of the pool: no usage reports, no calls to the Hub, caches on the mounted disk."""
    environment = {
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": "/cache/vllm",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(ENGINE_READY_S),
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_S),
        "VLLM_NO_USAGE_STATS": "1",
    }
    return environment | ({"NEURON_COMPILED_ARTIFACTS": artifacts_folder(engine)} if _nxd(engine) else {})


def artifacts_folder(engine: EnginePlan) -> str:
    """Where the engine's container looks for compiled artefacts, and leaves them."""
    return "/artifacts" if _nxd(engine) else "/cache/vllm/neuron/compile_cache"


def engine_arguments(pool: PoolPlan, choice: Choice, drain_s: int) -> list[str]:
    """Arguments of `vllm serve` for one replica on this instance type, without model path, host and port.

    `drain_s` is what running requests get to finish after SIGTERM, where the version can wait at all.
    """
    arguments = [
        "--served-model-name",
        pool.served_model_name,
        "--tensor-parallel-size",
        str(choice.tensor_parallel),
        "--max-model-len",
        str(choice.max_model_len_tokens),
        "--max-num-seqs",
        str(choice.max_num_seqs),
    ]
    arguments += _accelerator(pool.engine, choice)
    arguments += _if_known(pool.engine, "--disable-access-log-for-endpoints", "/health,/metrics")
    arguments += _if_known(pool.engine, "--shutdown-timeout", str(drain_s))
    arguments += _if_known(pool.engine, "--max-num-queued-reqs", str(4 * choice.max_num_seqs))
    return arguments


def artifacts_key(pool: PoolPlan, arguments: Sequence[str]) -> str | None:
    """Where compiled artefacts of these arguments lie in the cache; None for an engine that compiles nothing ahead.

    Loaded artefacts make the engine ignore its flags, so the key holds whatever shapes them: image, weights, arguments.
    """
    if not pool.engine.static_shapes:
        return None
    facts = [pool.engine.image, pool.weights.repository, pool.weights.revision, list(arguments)]
    return f"artifacts/{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}"


def _accelerator(engine: EnginePlan, choice: Choice) -> list[str]:
    if _nxd(engine):
        return _neuron(choice)
    step = ["--max-num-batched-tokens", str(choice.max_num_batched_tokens)]
    return step if engine.static_shapes else step + _gpu(choice)


def _gpu(choice: Choice) -> list[str]:
    arguments: list[str] = []
    if HALF_PRECISION_ONLY.search(choice.accelerator):
        arguments += ["--dtype", "float16"]
    if choice.kv_precision == "fp8":
        arguments += ["--kv-cache-dtype", "fp8"]
    return arguments


def _neuron(choice: Choice) -> list[str]:
    """Without prefix caching the engine needs exactly one block per sequence."""
    blocks = ["--block-size", str(NEURON_BLOCK_SIZE), "--num-gpu-blocks-override", str(choice.max_num_seqs)]
    return ["--no-enable-prefix-caching", *blocks]


def _nxd(engine: EnginePlan) -> bool:
    return engine.static_shapes and _minor_version(engine.version) < NXD_ENDS


def _if_known(engine: EnginePlan, flag: str, value: str) -> list[str]:
    return [flag, value] if _minor_version(engine.version) >= FLAG_SINCE[flag] else []


def _minor_version(version: str) -> tuple[int, int]:
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers is None:
        raise ValueError(f"engine version {version!r} does not start with two numbers")
    return int(numbers[1]), int(numbers[2])
