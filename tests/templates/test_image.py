"""The image of gateway and workers, without a container engine: what goes in is all they need, and no more."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from aws_cdk import App, Stack

from app import requested_plans, use_packaged_node
from llm_fleet.errors import InputError
from tests.templates.assembly import ROOT, Assembly

ENTRY_POINTS = ("llm_fleet.gateway.__main__", "llm_fleet.gateway.clerk.__main__", "llm_fleet.worker.__main__")
IMPORT_ALL = """
import importlib, json, pathlib, sys
folder, packages, *wanted = sys.argv[1:]
sys.path[:] = [folder, *sys.path, packages]
for name in wanted:
    importlib.import_module(name)
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""
"""Run without the site module, so that no editable install adds the repository to the path."""


@pytest.fixture(scope="module")
def context(assembly: Assembly) -> Path:
    """The folder that a deploy hands to the container engine."""
    images = json.loads((assembly.folder / "startup-mvp.assets.json").read_text())["dockerImages"]
    (image,) = images.values()
    return assembly.folder / image["source"]["directory"]


def imported(context: Path, *names: str) -> dict[str, str | None]:
    """Module -> file, of everything that importing the modules from that folder alone loads."""
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(context), sysconfig.get_path("purelib"), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modules(context: Path) -> list[str]:
    """Every module in the folder."""
    files = sorted((context / "llm_fleet").rglob("*.py"))
    names = [".".join(file.relative_to(context).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def test_it_holds_code_and_requirements_and_nothing_else(context: Path) -> None:
    files = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()}
    code = {name for name in files if name.startswith("llm_fleet/") and name.endswith(".py")}
    assert files - code == {".dockerignore", "Dockerfile", "requirements/service.txt"}
    packages = {name.split("/")[1] for name in code if name.count("/") > 1}
    assert packages == {"batches", "gateway", "worker"}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_an_entry_point_needs_nothing_beyond_the_image(entry_point: str, context: Path) -> None:
    if not (ROOT / f"{entry_point.replace('.', '/')}.py").exists():
        pytest.skip(f"{entry_point} does not exist yet")
    assert entry_point in imported(context, entry_point)


def test_every_module_of_the_image_imports_ours_from_the_image_only(context: Path) -> None:
    ours = {
        name: file for name, file in imported(context, *modules(context)).items() if name.split(".")[0] == "llm_fleet"
    }
    assert len(ours) > 10
    assert [name for name, file in ours.items() if not str(file).startswith(str(context))] == []


def test_every_module_of_the_image_imports_only_what_the_image_installs(context: Path) -> None:
    installed = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/service.txt").read_text(), re.MULTILINE))
    distributions = importlib.metadata.packages_distributions()
    loaded = {name.split(".")[0] for name in imported(context, *modules(context))} - set(sys.stdlib_module_names)
    needed = {re.sub(r"[-_.]+", "-", each.lower()) for name in loaded for each in distributions.get(name, [])}
    assert {"botocore", "pydantic"} <= needed
    assert needed - installed - {"cdk-llm-fleet"} == set()


def hash_of(folder: Path) -> str:
    """The image's tag: the hash of everything that it is built from."""
    use_packaged_node(os.environ)
    from llm_fleet_constructs.service_image import ServiceImage, ServiceImageProps

    uri = ServiceImage(Stack(App(), "Stack"), "Image", ServiceImageProps("build", folder))
    return str(Stack.of(uri).resolve(uri.uri("x86_64"))["Fn::Sub"]).rpartition(":")[2]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of what the image is built from, and of a neighbour."""
    for name in (".dockerignore", "Dockerfile", "requirements/service.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("gateway", "worker", "batches", "planning"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "llm_fleet" / name, tmp_path / "llm_fleet" / name, ignore=ignored)
    return tmp_path


@pytest.mark.parametrize(
    "litter",
    [
        "llm_fleet/gateway/__pycache__/settings.cpython-311.pyc",
        "llm_fleet/gateway/notes.txt",
        "llm_fleet/planning/new.py",
        "llm_fleet/.env",
        "cdk.out/llm_fleet/gateway/old.py",
        "secrets.json",
        ".git/HEAD",
    ],
)
def test_what_lies_beside_the_sources_does_not_change_its_hash(litter: str, copied: Path) -> None:
    before = hash_of(copied)
    (copied / litter).parent.mkdir(parents=True, exist_ok=True)
    (copied / litter).write_text("litter")
    assert hash_of(copied) == before


@pytest.mark.parametrize("source", ["llm_fleet/gateway/settings.py", "requirements/service.txt", "Dockerfile"])
def test_a_changed_source_changes_its_hash(source: str, copied: Path) -> None:
    before = hash_of(copied)
    with (copied / source).open("a") as file:
        file.write("\n# changed\n")
    assert hash_of(copied) != before


def test_it_installs_locked_wheels_and_runs_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    (install,) = [line for line in text.splitlines() if "pip install" in line]
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install.split())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[-4:] == [
        "USER 65532:65532",
        "HEALTHCHECK NONE",
        'ENTRYPOINT ["python", "-m"]',
        'CMD ["llm_fleet.gateway"]',
    ]


def test_where_the_image_comes_from_may_be_said_for_all_patterns_at_once() -> None:
    plans = requested_plans({"image": "none"})
    assert len(plans) > 1
    assert {plan.deployment.gateway.image for plan in plans} == {"none"}


@pytest.mark.parametrize("image", ["biuld", "two words/x", "$(reboot)/x", "x/y;z"])
def test_an_image_that_is_neither_a_word_nor_a_uri_is_a_mistake_that_says_what_may_stand_there(image: str) -> None:
    with pytest.raises(InputError, match="build, none or a URI"):
        requested_plans({"image": image})
