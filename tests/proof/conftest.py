"""Of the proofs: the local cloud they share, their seed, the long ones on demand, what they say at the end."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.cloud import LocalCloud
from tests.proof.door import POOL, Door, open_door
from tests.proof.findings import FINDINGS, Findings
from tests.proof.fleet import Fleet

SEED = "LLM_FLEET_PROOF_SEED"
"""Environment variable: the seed of another run. Without it every run has the same."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the proofs that take many minutes too")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FINDINGS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak", default=False):
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.skip(reason="takes many minutes: make soak"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for finding in config.stash[FINDINGS]:
        terminalreporter.write_line(finding)


@pytest.fixture
def findings(request: pytest.FixtureRequest) -> Findings:
    return Findings(request)


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get(SEED, "20261124"))


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def open_files() -> None:
    """Thousands of connections, here and in the processes that are started from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture(scope="session")
def door(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway with two engines, shared by proofs that leave it as they found it."""
    fleet = Fleet(cloud, tmp_path_factory.mktemp("door"), pools=[POOL])
    yield open_door(fleet, engines=2)
    fleet.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proof")
