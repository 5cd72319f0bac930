"""Each test has queues, tables and buckets of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.cloud import LocalCloud
from tests.worker.autoscaling_stand_in import AutoScalingStandIn
from tests.worker.world import EngineProcess, World


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    process = EngineProcess()
    yield process
    process.stop()


@pytest.fixture
def world(shared_cloud: LocalCloud, tmp_path: Path) -> World:
    world = World(shared_cloud, tmp_path)
    world.batch()
    return world


@pytest.fixture
def group() -> Iterator[AutoScalingStandIn]:
    with AutoScalingStandIn() as stand_in:
        yield stand_in
