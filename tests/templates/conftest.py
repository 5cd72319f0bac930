"""One synthesis of all patterns for every test of templates: jsii starts once."""

from __future__ import annotations

import pytest

from tests.templates.assembly import Assembly, synthesise


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """All patterns, with cdk-nag."""
    return synthesise(tmp_path_factory.mktemp("assembly"))
