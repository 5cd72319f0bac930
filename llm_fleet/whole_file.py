"""Writes a file whole or not at all: a temporary file beside it, then a rename."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from llm_fleet.documents import shown_path
from llm_fleet.errors import InputError, Problem


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content`; where that fails, what stood there stays.

    Raises:
        InputError: the folder is missing or not writable, or the disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        os.chmod(name, mode)
        os.replace(name, path)
    except OSError as error:
        if name and os.path.exists(name):
            os.unlink(name)
        raise InputError(Problem(shown_path(path), f"cannot be written ({error.strerror})")) from None
