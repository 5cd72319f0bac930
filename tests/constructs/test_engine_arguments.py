"""The engine's command line follows the plan, the accelerator and the engine's version."""

from __future__ import annotations

from typing import Any

import pytest

from llm_fleet.planning import plan_fleet
from llm_fleet.planning.plan import Choice, PoolPlan
from llm_fleet_constructs.boot.engine_arguments import artifacts_folder, artifacts_key, engine_arguments

GPU = plan_fleet("startup-mvp").pools[0]
NEURON = plan_fleet("cost-optimized-scale").pools[0]


def with_engine(pool: PoolPlan, **change: Any) -> PoolPlan:
    return pool.model_copy(update={"engine": pool.engine.model_copy(update=change)})


def with_choice(pool: PoolPlan, **change: Any) -> Choice:
    return pool.choices[0].model_copy(update=change)


def value_of(arguments: list[str], flag: str) -> str | None:
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


def test_shapes_and_limits_are_the_choices() -> None:
    choice = GPU.choices[0]
    arguments = engine_arguments(GPU, choice, 300)
    assert value_of(arguments, "--tensor-parallel-size") == str(choice.tensor_parallel)
    assert value_of(arguments, "--max-model-len") == str(choice.max_model_len_tokens)
    assert value_of(arguments, "--max-num-seqs") == str(choice.max_num_seqs)
    assert value_of(arguments, "--max-num-batched-tokens") == str(choice.max_num_batched_tokens)
    assert value_of(arguments, "--served-model-name") == GPU.served_model_name


@pytest.mark.parametrize(
    ("version", "drains", "limits_its_queue"),
    [("0.16.0", False, False), ("0.18.0", True, False), ("0.27.1", True, False), ("0.33.0", True, True)],
)
def test_a_version_gets_only_flags_it_knows(version: str, drains: bool, limits_its_queue: bool) -> None:
    arguments = engine_arguments(with_engine(GPU, version=version), GPU.choices[0], 300)
    assert (value_of(arguments, "--shutdown-timeout") == "300") == drains
    assert ("--max-num-queued-reqs" in arguments) == limits_its_queue


def test_a_version_that_is_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match="latest"):
        engine_arguments(with_engine(GPU, version="latest"), GPU.choices[0], 300)


@pytest.mark.parametrize(("accelerator", "dtype"), [("T4", "float16"), ("L4", None), ("A10G", None)])
def test_turing_computes_in_float16(accelerator: str, dtype: str | None) -> None:
    arguments = engine_arguments(GPU, with_choice(GPU, accelerator=accelerator), 300)
    assert value_of(arguments, "--dtype") == dtype


def test_an_eight_bit_cache_is_asked_for_where_the_plan_counted_on_one() -> None:
    assert value_of(engine_arguments(GPU, with_choice(GPU, kv_precision="fp8"), 300), "--kv-cache-dtype") == "fp8"
    assert value_of(engine_arguments(GPU, with_choice(GPU, kv_precision="bf16"), 300), "--kv-cache-dtype") is None


def test_inferentia_gets_exactly_one_block_a_sequence_and_no_prefix_cache() -> None:
    arguments = engine_arguments(NEURON, NEURON.choices[0], 300)
    assert "--no-enable-prefix-caching" in arguments
    assert value_of(arguments, "--num-gpu-blocks-override") == str(NEURON.choices[0].max_num_seqs)
    assert "--max-num-batched-tokens" not in arguments


def test_compiled_artefacts_are_kept_apart_by_image_weights_and_arguments() -> None:
    first = artifacts_key(NEURON, ["--max-num-seqs", "16"])
    assert first is not None
    assert first != artifacts_key(NEURON, ["--max-num-seqs", "32"])
    assert first != artifacts_key(with_engine(NEURON, image="another"), ["--max-num-seqs", "16"])
    assert first == artifacts_key(NEURON, ["--max-num-seqs", "16"])
    assert artifacts_key(GPU, []) is None


def test_compiled_artefacts_lie_where_the_engines_generation_looks() -> None:
    assert artifacts_folder(NEURON.engine) == "/artifacts"
    later = with_engine(NEURON, version="0.24.0.1.1.0-sdk2.32.0").engine
    assert artifacts_folder(later) == "/cache/vllm/neuron/compile_cache"
