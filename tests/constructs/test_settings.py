"""What an instance reads before anything else: its settings and the metadata service."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llm_fleet_constructs.boot.render import ON_INSTANCE
from llm_fleet_constructs.on_instance.imds import Imds
from llm_fleet_constructs.on_instance.settings import FatalError, Settings, load_settings
from tests.constructs.conftest import Instance, read_back, settings_document

OLDEST_PYTHON = (3, 9)
"""Amazon Linux 2023's own, which runs this code."""


@pytest.mark.parametrize("path", sorted(ON_INSTANCE.glob("*.py")), ids=lambda path: path.name)
def test_the_code_parses_as_the_oldest_python_it_meets(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST_PYTHON)


def test_the_document_that_the_cdk_writes_is_the_one_that_instances_read(settings: Settings) -> None:
    plan = settings.plan_for("g4dn.xlarge")
    assert settings.pool == "cost_efficient"
    assert (plan.replicas, plan.devices_per_replica, plan.artifacts_key) == (1, 1, None)
    assert "--max-model-len" in plan.arguments


def test_a_type_without_a_serving_plan_is_named_with_those_that_have_one(settings: Settings) -> None:
    with pytest.raises(FatalError, match=r"p5\.48xlarge.*g4dn\.xlarge"):
        settings.plan_for("p5.48xlarge")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version 2"),
        ({"engine": {}}, "lacks the key"),
    ],
    ids=["another version", "a missing key"],
)
def test_settings_that_do_not_fit_end_the_boot_with_the_reason(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(FatalError, match=says):
        read_back(tmp_path, settings_document() | change)


def test_missing_settings_end_the_boot_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="cannot be read"):
        load_settings(tmp_path / "none.json")


def test_metadata_needs_a_token_and_a_missing_entry_is_none(instance: Instance) -> None:
    assert instance.imds.need("instance-type") == "g4dn.xlarge"
    assert instance.imds.get("spot/instance-action") is None


def test_an_entry_that_must_exist_and_does_not_is_an_error(instance: Instance) -> None:
    with pytest.raises(OSError, match="no placement/region"):
        instance.imds.need("placement/region")


def test_no_answer_is_an_error_and_never_nothing() -> None:
    with pytest.raises(OSError, match="refused"):
        Imds("http://127.0.0.1:9").get("spot/instance-action")


def test_a_fatal_error_is_one_line_and_exit_status_one(tmp_path: Path) -> None:
    done = subprocess.run(
        ["python3", "-m", "on_instance", "weights"],
        cwd=ON_INSTANCE.parent,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fatal: /etc/llm-fleet/settings.json cannot be read")
    assert len(done.stderr.splitlines()) == 1
