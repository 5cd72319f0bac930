"""What is wrong before the worker serves: said in one line each, with the fix, and an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from llm_fleet.worker.__main__ import main
from llm_fleet.worker.settings import load_settings
from llm_fleet_constructs.boot.settings import PoolSurroundings, pool_settings
from tests.worker.imds_stand_in import ImdsStandIn
from tests.worker.world import World

NAMES = [field.name for field in dataclasses.fields(PoolSurroundings) if field.default is dataclasses.MISSING]
LAPTOP = ["--worker-id", "w", "--host", "127.0.0.1", "--instance-type", "g4dn.xlarge"]


def run(*words: str) -> tuple[int, list[str]]:
    """Exit code and the lines of standard error."""
    errors = io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with contextlib.redirect_stderr(errors):
            code = main(list(words))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, errors.getvalue().splitlines()


def start(folder: Path, document: object) -> tuple[int, list[str]]:
    path = folder / "settings.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return run("--settings", str(path), *LAPTOP)


@pytest.fixture
def aws(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """This process is a client of the local cloud."""
    for name, value in world.cloud.environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return world


def test_a_missing_document_is_said_with_what_to_do(tmp_path: Path) -> None:
    code, lines = run("--settings", str(tmp_path / "none.json"), *LAPTOP)
    assert code == 2
    assert len(lines) == 1
    assert "none.json: cannot be read (No such file or directory)" in lines[0]
    assert "--settings" in lines[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_a_document_that_is_none_ends_the_start_without_a_traceback(tmp_path: Path, text: str) -> None:
    code, lines = start(tmp_path, text)
    assert code == 2
    assert "settings.json" in lines[0]


def test_each_problem_of_a_document_has_a_line_with_its_key(tmp_path: Path, world: World) -> None:
    document = world.settings(1) | {"version": 7, "engine": {"port": 0}}
    del document["queue_url"]
    code, lines = start(tmp_path, document)
    assert code == 2
    assert len(lines) == 3
    assert "version: this image reads version 1: deploy image and stack of the same release; got 7" in lines[0]
    assert "queue_url: Field required" in lines[1]
    assert "engine.port: " in lines[2]


def test_a_type_without_a_serving_plan_is_named_with_those_that_have_one(tmp_path: Path, world: World) -> None:
    document = world.settings(
        1, instance_types={"p5.48xlarge": {"replicas": 1, "max_num_seqs": 1, "capacity_weight": 1}}
    )
    code, lines = start(tmp_path, document)
    assert code == 2
    assert "got 'g4dn.xlarge'; allowed: p5.48xlarge" in lines[0]


def test_flags_for_a_laptop_come_all_or_none(tmp_path: Path, world: World) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(world.settings(1)))
    code, lines = run("--settings", str(path), "--host", "127.0.0.1")
    assert code == 2
    assert "give all three" in lines[0]


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("queue_url", "sqs:GetQueueAttributes"),
        ("dead_letter_queue_url", "sqs:GetQueueAttributes"),
        ("registry_table", "dynamodb:PutItem"),
        ("batch_table", "dynamodb:GetItem"),
        ("batch_files_bucket", "s3:GetObject"),
        ("batch_results_bucket", "s3:GetObject"),
    ],
)
def test_what_is_missing_is_named_with_the_action_that_lacks(aws: World, tmp_path: Path, key: str, action: str) -> None:
    document: dict[str, Any] = aws.settings(1)
    document[key] += "-missing"
    code, lines = start(tmp_path, document)
    assert code == 3
    assert len(lines) == 1
    assert document[key] in lines[0]
    assert action in lines[0]


def test_a_silent_metadata_service_is_named(aws: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(aws.settings(1)))
    code, lines = run("--settings", str(path))
    assert code == 3
    assert "http://127.0.0.1:9" in lines[0]


def test_metadata_that_lacks_the_instances_id_is_said(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(world.settings(1)))
    with ImdsStandIn({}) as imds:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url)
        code, lines = run("--settings", str(path))
    assert code == 3
    assert "instance-id" in lines[0]


def test_a_worker_that_loses_a_thread_ends_so_that_a_whole_one_takes_its_place(world: World) -> None:
    """A host name with an empty part raises what nobody expects of a network call."""
    with world.worker(world.settings(1), host="a..b") as worker:
        assert worker.ended() == 1
        assert worker.events("crash")[0]["thread"] == "lane-1"


@pytest.mark.parametrize("pattern", pattern_names())
def test_the_document_that_the_cdk_writes_is_the_one_that_the_worker_reads(tmp_path: Path, pattern: str) -> None:
    around = PoolSurroundings(**dict.fromkeys((*NAMES, "worker_image", "metrics_namespace"), "name"))
    for pool in plan_fleet(pattern).pools:
        path = tmp_path / "settings.json"
        path.write_text(json.dumps(pool_settings(pool, around)))
        settings = load_settings(path)
        assert settings.pool == pool.role
        assert settings.metrics_namespace == "name"
        for choice in pool.choices:
            plan = settings.plan_for(choice.instance_type)
            assert (plan.replicas, plan.max_num_seqs) == (choice.replicas, choice.max_num_seqs)
