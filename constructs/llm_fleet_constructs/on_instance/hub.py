"""Resolves a commit, downloads its files, checks their sums; runs in the engine's container, for its huggingface_hub.

python3 -m on_instance.hub commit REPOSITORY                     prints the default branch's commit
python3 -m on_instance.hub download REPOSITORY COMMIT FOLDER     downloads weights, configuration and tokenizer
"""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

PATTERNS = ["*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt", "*.jinja"]
"""Weights without pickle, configuration, tokenizer, chat template. Code of the repository is never fetched."""


def commit(repository: str) -> str:
    """The 40-digit commit of the repository's default branch, now."""
    hub: Any = import_module("huggingface_hub")
    return str(hub.HfApi().model_info(repository).sha)


def download(repository: str, revision: str, folder: Path) -> None:
    """Fetch the commit's files and compare those with a published checksum.

    Raises:
        SystemExit: a file differs, or the repository holds no safetensors.
    """
    hub: Any = import_module("huggingface_hub")
    hub.snapshot_download(repository, revision=revision, local_dir=str(folder), allow_patterns=PATTERNS)
    info = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    sums = {
        file.rfilename: file.lfs.sha256 for file in info.siblings if file.lfs and (folder / file.rfilename).is_file()
    }
    wrong = [name for name, expected in sums.items() if _sha256(folder / name) != expected]
    if wrong:
        raise SystemExit(f"{repository}@{revision}: checksum differs for {', '.join(wrong)}")
    if not any(name.endswith(".safetensors") for name in sums):
        raise SystemExit(f"{repository}@{revision} holds no safetensors; pickled weights are refused")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    if sys.argv[1] == "commit":
        print(commit(sys.argv[2]))
    else:
        download(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
