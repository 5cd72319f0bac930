"""Fixtures of the tests for files, batches and the clerk: one local cloud a folder, resources of its own a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.cloud import LocalCloud
from tests.batches.batch_world import REGION, BatchWorld, Clock


@pytest.fixture(scope="session")
def batch_cloud() -> Iterator[LocalCloud]:
    with LocalCloud(region=REGION) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(batch_cloud: LocalCloud, clock: Clock) -> BatchWorld:
    return BatchWorld(batch_cloud, clock)
