"""For all tests: none of them may reach a real AWS account; those of the services share one local cloud."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from localcloud.cloud import LocalCloud

for name in [name for name in os.environ if name.startswith(("AWS_", "CDK_"))]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


@pytest.fixture(scope="session")
def shared_cloud() -> Iterator[LocalCloud]:
    """A local cloud for whoever names what he makes in it after his test."""
    with LocalCloud() as running:
        yield running


@pytest.fixture
def aws(shared_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> LocalCloud:
    """The shared cloud as this process's AWS, for one test."""
    for name, value in shared_cloud.environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return shared_cloud
