"""A catalogue folder that a test may break."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_fleet.catalog.load import FOLDER

Edit = Callable[[str, str, str], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the kit's own catalogue."""
    return Path(shutil.copytree(FOLDER, tmp_path / "catalog"))


@pytest.fixture
def edit(folder: Path) -> Edit:
    """Replace text in one file of the copy; the text must be there."""

    def replace(name: str, old: str, new: str) -> None:
        path = folder / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    return replace
