"""`bench/synth` compares like with like: its plain CDK app writes the resources of the kit, with as much in them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.bare_app.stacks import build_app as build_bare_app
from llm_fleet.planning import plan_fleet
from stacks.fleet_app import build_app as build_kit_app

ROOT = Path(__file__).parents[2]
STACKS = ("startup-mvp-foundation", "startup-mvp")
VOLUME_TOLERANCE = 0.05
"""Of the number of values in the properties: descriptions and the like may come and go on one side."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Assemblies of the kit and of the bare app."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    kit, bare = tmp_path_factory.mktemp("kit"), tmp_path_factory.mktemp("bare")
    build_kit_app([plan_fleet("startup-mvp", {})], context=context, outdir=str(kit), nag=False).synth()
    build_bare_app(context, outdir=str(bare)).synth()
    return kit, bare


def resources(folder: Path, stack: str) -> list[dict[str, Any]]:
    return list(json.loads((folder / f"{stack}.template.json").read_text())["Resources"].values())


def count_values(value: object) -> int:
    """Strings, numbers and booleans below `value`."""
    if isinstance(value, dict):
        return sum(map(count_values, value.values()))
    if isinstance(value, list):
        return sum(map(count_values, value))
    return 1


@pytest.mark.parametrize("stack", STACKS)
def test_the_bare_app_has_as_many_resources_of_each_type_as_the_kit(folders: tuple[Path, Path], stack: str) -> None:
    kit, bare = (Counter(resource["Type"] for resource in resources(folder, stack)) for folder in folders)
    assert bare == kit


@pytest.mark.parametrize("stack", STACKS)
def test_the_bare_app_sets_about_as_many_values_as_the_kit(folders: tuple[Path, Path], stack: str) -> None:
    kit, bare = (
        sum(count_values(resource.get("Properties", {})) for resource in resources(folder, stack)) for folder in folders
    )
    assert bare == pytest.approx(kit, rel=VOLUME_TOLERANCE)


@pytest.mark.parametrize("stack", STACKS)
def test_the_templates_are_about_equally_long(folders: tuple[Path, Path], stack: str) -> None:
    kit, bare = ((folder / f"{stack}.template.json").stat().st_size for folder in folders)
    assert bare == pytest.approx(kit, rel=VOLUME_TOLERANCE)


def test_the_assemblies_hold_as_many_assets(folders: tuple[Path, Path]) -> None:
    kit, bare = (len(list(folder.glob("asset.*"))) for folder in folders)
    assert bare == kit
