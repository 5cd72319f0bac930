"""One local cloud for all deploy tests of a session, bootstrapped once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.cdk import bootstrap
from localcloud.cloud import LocalCloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """A running local cloud in the region of the patterns."""
    with LocalCloud(region="us-east-1") as running:
        bootstrap(running)
        yield running
