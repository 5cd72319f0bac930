"""User data and units: short enough, valid shell, nested times, and no name left empty."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs.boot.render import (
    LARGEST_USER_DATA_BYTES,
    ON_INSTANCE,
    UNITS,
    UNITS_OF_A_WORKER,
    UNITS_WITHOUT_WORKER,
    Bundle,
    environment,
    render_units,
    render_user_data,
)
from llm_fleet_constructs.boot.settings import StopTimes, pool_settings
from tests.constructs.conftest import SURROUNDINGS

SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))
LONGEST_NAME = "x" * 150
"""Longer than any queue URL, table or bucket name that a deploy puts in."""
POOLS = [(name, pool) for name in pattern_names() for pool in plan_fleet(name).pools]
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/llm-fleet:1"
each_shape = pytest.mark.parametrize("worker_image", [None, IMAGE], ids=["without worker", "with worker"])
each_pool = pytest.mark.parametrize("pool", [pool for _, pool in POOLS], ids=[f"{n}-{p.role}" for n, p in POOLS])


def user_data(pool: PoolPlan, name: str = "deployed", worker_image: str | None = IMAGE) -> str:
    names: dict[str, Any] = dict.fromkeys(vars(SURROUNDINGS), name) | {"worker_image": worker_image}
    document = json.dumps(pool_settings(pool, type(SURROUNDINGS)(**names)), separators=(",", ":"))
    return render_user_data(
        pool,
        region="us-east-1",
        settings_json=document,
        log_group=name,
        bundle=Bundle(name, f"{'0' * 64}.zip"),
        worker_image=worker_image,
    )


def shellcheck(script: str | Path) -> str:
    text = script.read_text() if isinstance(script, Path) else script
    done = subprocess.run([SHELLCHECK, "-"], input=text, capture_output=True, text=True, check=False)
    return done.stdout


@each_pool
@each_shape
def test_user_data_passes_shellcheck(pool: PoolPlan, worker_image: str | None) -> None:
    assert shellcheck(user_data(pool, worker_image=worker_image)) == ""


def test_scripts_of_the_bundle_pass_shellcheck() -> None:
    scripts = list(ON_INSTANCE.glob("*.sh"))
    assert scripts
    for script in scripts:
        assert shellcheck(script) == "", script.name


@each_pool
def test_user_data_fits_with_the_longest_names(pool: PoolPlan) -> None:
    assert len(user_data(pool, LONGEST_NAME, worker_image=LONGEST_NAME).encode()) <= LARGEST_USER_DATA_BYTES


@each_pool
@each_shape
def test_bash_writes_out_the_settings_and_units_that_were_rendered(
    pool: PoolPlan, worker_image: str | None, tmp_path: Path
) -> None:
    """Only the part that writes files runs, into a folder of the test."""
    script = user_data(pool, worker_image=worker_image)
    start, end = script.index("mkdir -p /etc/llm-fleet"), script.index("aws s3 cp")
    writing = script[start:end].replace("/etc/", f"{tmp_path}/etc/").replace("/opt/", f"{tmp_path}/opt/")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    subprocess.run(["bash", "-euo", "pipefail", "-c", writing], check=True)
    document = json.loads((tmp_path / "etc" / "llm-fleet" / "settings.json").read_text())
    assert set(document["instance_types"]) == {choice.instance_type for choice in pool.choices}
    units = {path.name for path in (tmp_path / "etc" / "systemd" / "system").iterdir()}
    assert units == {*UNITS, *(UNITS_OF_A_WORKER if worker_image else UNITS_WITHOUT_WORKER)}
    agent = json.loads((tmp_path / "etc" / "llm-fleet" / "cloudwatch-agent.json").read_text())
    collected = agent["logs"]["logs_collected"]["journald"]["collect_list"][0]["units"]
    assert set(collected) == {"docker.service", *(name.replace("@", "@*") for name in units)}


@each_pool
def test_user_data_holds_no_secret_only_its_name(pool: PoolPlan) -> None:
    document = pool_settings(pool, SURROUNDINGS)
    assert document["model"]["token_secret"] == (pool.weights.token_secret_name if pool.weights.gated else None)


def test_a_name_that_nobody_gave_stops_the_rendering() -> None:
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        environment().from_string("{{ missing }}").render()


def sections(unit: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    parser.read_string(unit)
    return parser


@each_pool
@each_shape
def test_units_have_no_repeated_key_and_wait_for_units_that_exist(pool: PoolPlan, worker_image: str | None) -> None:
    units = render_units(pool, worker_image)
    known = {*units, "docker.service", "network-online.target"}
    for name, text in units.items():
        unit = sections(text)
        assert unit["Unit"]["Description"], name
        for key in ("Requires", "After", "Wants", "OnFailure"):
            assert set(unit["Unit"].get(key, "").split()) <= known, name


@each_pool
def test_units_start_what_lies_where_the_bundle_is_unpacked(pool: PoolPlan) -> None:
    script = user_data(pool)
    assert "python3 -m zipfile -e /run/llm-fleet-bundle.zip /opt/llm-fleet/on_instance" in script
    for name, text in (render_units(pool) | render_units(pool, IMAGE)).items():
        start = sections(text)["Service"]["ExecStart"]
        if name == "llm-worker.service":
            continue
        assert start.startswith(("/usr/bin/python3 -m on_instance ", "/bin/bash /opt/llm-fleet/on_instance/disk.sh"))


@each_pool
def test_times_to_stop_nest_engine_in_container_in_unit_in_hook(pool: PoolPlan) -> None:
    stop = StopTimes.within_hook(pool.scaling.drain_seconds)
    for name in ("llm-engine@.service", "llm-worker.service"):
        service = sections(render_units(pool, IMAGE)[name])["Service"]
        assert f"docker stop -t {stop.container_s} " in service["ExecStop"]
        assert int(service["TimeoutStopSec"]) == stop.unit_s
    assert pool.scaling.drain_seconds == stop.engine_s < stop.container_s < stop.unit_s < stop.hook_s


def test_a_drain_as_long_as_the_longest_hook_is_shortened_until_it_fits() -> None:
    assert StopTimes.within_hook(7200).hook_s == 7200


def test_the_worker_runs_as_nobody_without_docker_and_outlives_its_engines() -> None:
    units = render_units(POOLS[0][1], IMAGE)
    worker = sections(units["llm-worker.service"])
    start = worker["Service"]["ExecStart"]
    assert start.endswith(f" {IMAGE} llm_fleet.worker")
    assert " --read-only " in start
    assert " --user 65532 " in start
    assert "docker.sock" not in start
    assert "Requires" not in worker["Unit"]
    # Stopped in reverse: the worker drains while its engines still answer.
    assert sections(units["llm-engine@.service"])["Unit"]["Before"] == "llm-worker.service"


def test_user_data_starts_what_leaves_only_where_no_worker_does_it() -> None:
    assert "llm-leave" in user_data(POOLS[0][1], worker_image=None)
    assert "llm-leave" not in user_data(POOLS[0][1])


@pytest.mark.parametrize("name", ["llm-engine@.service", "llm-leave.service", "llm-worker.service"])
def test_what_must_run_is_restarted(name: str) -> None:
    units = render_units(POOLS[0][1]) | render_units(POOLS[0][1], IMAGE)
    assert sections(units[name])["Service"]["Restart"] in ("always", "on-failure")


def test_a_failing_first_boot_gives_the_instance_up(tmp_path: Path) -> None:
    """The trap, run with an aws and a curl of our own."""
    log = tmp_path / "aws.log"
    for name, body in {"aws": f'echo "$*" >> {log}', "curl": "echo answer"}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
    script = user_data(POOLS[0][1])
    head = script[: script.index("have() {")]
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run([bash, "-c", f"{head}\nfalse\n"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert done.returncode != 0
    assert "complete-lifecycle-action" in log.read_text()
    assert "--lifecycle-action-result ABANDON" in log.read_text()
