"""Fixtures of the tests for files, batches and the clerk: resources of its own for each test."""

from __future__ import annotations

import pytest

from localcloud.cloud import LocalCloud
from tests.batches.batch_world import BatchWorld, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(aws: LocalCloud, clock: Clock) -> BatchWorld:
    return BatchWorld(clock)
