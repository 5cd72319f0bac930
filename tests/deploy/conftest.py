"""One local cloud for all deploy tests of a session, and assemblies that the real CDK CLI synthesised once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud.cdk import bootstrap, run_cdk
from localcloud.cloud import LocalCloud
from localcloud.reading import FleetReader

Synth = Callable[..., Path]


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """A running local cloud in the region of the patterns."""
    with LocalCloud(region="us-east-1") as running:
        bootstrap(running)
        yield running


@pytest.fixture(scope="session")
def reader(cloud: LocalCloud) -> FleetReader:
    return FleetReader(cloud.session(), cloud.endpoint_url)


@pytest.fixture(scope="session")
def synth(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Synth:
    """`synth("max_instances=6")`: the folder of an assembly made by the CDK CLI with that context."""

    def synthesise(*context: str) -> Path:
        folder = tmp_path_factory.mktemp("assembly")
        words = [word for assignment in ("nag=off", "image=none", *context) for word in ("-c", assignment)]
        run_cdk(cloud, "synth", "--quiet", *words, "--output", str(folder))
        return folder

    return synthesise
