"""The S3 cache: filled by one instance, read by all others.

    <prefix>/files/...      the content, immutable
    <prefix>/manifest.json  {"files": [{"name", "size_bytes", "sha256"}], ...}
    <prefix>/READY          sha256 of the manifest; written last, so what has it is whole
    <prefix>/fill.lock      who fills; written only if absent, renewed while the work goes on, else taken over

Two fillers at once would do no harm: both write the same bytes. The lock only saves them the work.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .aws import Aws, AwsError
from .settings import FatalError

UTC = timezone.utc  # noqa: UP017 (datetime.UTC is younger than the instance's Python)
RENEW_S = 60
STALE_S = 600
"""A lock that was not renewed for this long belonged to an instance that is gone."""
POLL_S = 15
DISK_MARGIN = 1.1


def manifest_of(folder: Path, **more: str) -> bytes:
    """The manifest of every file below `folder`, canonical, with `more` beside the files."""
    files = [_entry(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return (json.dumps({**more, "files": files}, indent=1, sort_keys=True) + "\n").encode()


def check(folder: Path, manifest: bytes) -> list[str]:
    """What is wrong with `folder` against the manifest: missing files, wrong sizes, wrong sums."""
    wrong: list[str] = []
    for entry in json.loads(manifest)["files"]:
        path = folder / entry["name"]
        if not path.is_file():
            wrong.append(f"{entry['name']} is missing")
        elif path.stat().st_size != entry["size_bytes"]:
            wrong.append(f"{entry['name']} has {path.stat().st_size} bytes, not {entry['size_bytes']}")
        elif _sha256(path) != entry["sha256"]:
            wrong.append(f"{entry['name']} has another checksum")
    return wrong


@dataclass(frozen=True)
class Cache:
    """One entry of the cache."""

    aws: Aws
    bucket: str
    prefix: str
    owner: str
    """Instance id, for the lock."""

    def bring(self, folder: Path, make: Callable[[Path], None], **facts: str) -> None:
        """Have the entry's content in `folder`: from the cache, or by `make(temporary folder)`, which then fills
        the cache.

        Raises:
            FatalError: the content does not match its manifest, or the disk is too small.
        """
        if (folder / ".ok").exists():
            return
        etag = self.claim()
        if etag is None:
            self.fetch(folder)
            return
        with self.renewed(etag):
            part = _part_of(folder)
            make(part)
            self.publish(part, **facts)
            _finish(part, folder)

    def claim(self) -> str | None:
        """Take the lock and return its ETag; or wait until the entry is ready and return None."""
        while True:
            if self.ready():
                return None
            etag = self._lock()
            if etag is not None:
                return etag
            time.sleep(POLL_S * random.uniform(0.7, 1.3))

    def ready(self) -> bool:
        """Whether somebody finished filling."""
        return self.aws.head(self.bucket, f"{self.prefix}/READY") is not None

    def fetch(self, folder: Path) -> None:
        """Copy the entry into `folder` and check it; `folder` appears only when it is whole."""
        manifest = self._manifest()
        need = int(DISK_MARGIN * sum(entry["size_bytes"] for entry in json.loads(manifest)["files"]))
        part = _part_of(folder)
        free = shutil.disk_usage(part).free
        if free < need:
            raise FatalError(f"{folder} needs {need} bytes of disk, {free} are free")
        self.aws.copy(f"s3://{self.bucket}/{self.prefix}/files", str(part))
        wrong = check(part, manifest)
        if wrong:
            shutil.rmtree(part)
            raise FatalError(f"s3://{self.bucket}/{self.prefix} does not match its manifest: {'; '.join(wrong[:5])}")
        _finish(part, folder)

    def publish(self, folder: Path, **facts: str) -> None:
        """Write the content of `folder` into the cache; READY comes last."""
        manifest = manifest_of(folder, **facts)
        self.aws.copy(str(folder), f"s3://{self.bucket}/{self.prefix}/files")
        self.aws.put(self.bucket, f"{self.prefix}/manifest.json", manifest)
        self.aws.put(self.bucket, f"{self.prefix}/READY", hashlib.sha256(manifest).hexdigest().encode())

    @contextmanager
    def renewed(self, etag: str) -> Generator[None]:
        """Keep the lock fresh while the body runs."""
        done = threading.Event()
        thread = threading.Thread(target=self._renew, args=(etag, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew(self, etag: str, done: threading.Event) -> None:
        held: str | None = etag
        while held is not None and not done.wait(RENEW_S):
            try:
                held = self._write_lock("--if-match", held)
            except AwsError as error:
                print(f"the lock of {self.prefix} was not renewed: {error}", flush=True)

    def _lock(self) -> str | None:
        etag = self._write_lock("--if-none-match", "*")
        if etag is not None:
            return etag
        held = self.aws.head(self.bucket, f"{self.prefix}/fill.lock")
        if held is not None and (_age_s(held.modified) > STALE_S or self._is_mine()):
            return self._write_lock("--if-match", held.etag)
        return None

    def _is_mine(self) -> bool:
        """Whether this very instance wrote the lock, in an attempt that failed or before a reboot."""
        body = self.aws.get(self.bucket, f"{self.prefix}/fill.lock")
        return body is not None and json.loads(body)["owner"] == self.owner

    def _write_lock(self, *condition: str) -> str | None:
        body = json.dumps({"owner": self.owner, "at": datetime.now(UTC).isoformat()}).encode()
        return self.aws.put(self.bucket, f"{self.prefix}/fill.lock", body, *condition)

    def _manifest(self) -> bytes:
        manifest = self.aws.get(self.bucket, f"{self.prefix}/manifest.json")
        expected = self.aws.get(self.bucket, f"{self.prefix}/READY")
        if manifest is None or expected is None or hashlib.sha256(manifest).hexdigest() != expected.decode().strip():
            raise FatalError(f"s3://{self.bucket}/{self.prefix}: READY and manifest.json do not belong together")
        return manifest


def _part_of(folder: Path) -> Path:
    part = folder.with_name(f"{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    return part


def _finish(part: Path, folder: Path) -> None:
    (part / ".ok").touch()
    part.rename(folder)


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    return {"name": path.relative_to(folder).as_posix(), "size_bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _age_s(modified: str) -> float:
    written = datetime.fromisoformat(modified.replace("Z", "+00:00"))
    return (datetime.now(UTC) - written).total_seconds()
