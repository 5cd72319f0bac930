"""The S3 cache: one instance fills, all others read, and nothing half-written is ever taken for whole."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from llm_fleet_constructs.on_instance import cache as cache_module
from llm_fleet_constructs.on_instance.cache import Cache, check, manifest_of
from llm_fleet_constructs.on_instance.settings import FatalError
from tests.constructs.conftest import Cloud

PREFIX = "weights/org/model/0123"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "POLL_S", 0.02)
    monkeypatch.setattr(cache_module, "RENEW_S", 0.02)


def entry(cloud: Cloud, owner: str = "i-1") -> Cache:
    return Cache(cloud.aws, "weights-bucket", PREFIX, owner)


def make_model(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "sub").mkdir()
    (folder / "sub" / "config.json").write_text("{}")


def must_not_make(folder: Path) -> None:
    raise AssertionError("the cache should have had it")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_first_instance_makes_the_content_and_leaves_it_for_the_others(cloud: Cloud, tmp_path: Path) -> None:
    entry(cloud).bring(tmp_path / "first", make_model, repository="org/model")
    entry(cloud, "i-2").bring(tmp_path / "second", must_not_make)
    assert files(tmp_path / "first") == files(tmp_path / "second") == {"model.safetensors", "sub/config.json", ".ok"}
    assert (tmp_path / "second" / "model.safetensors").read_bytes() == b"weights" * 100


def test_ready_is_the_sum_of_the_manifest_and_the_manifest_names_its_source(cloud: Cloud, tmp_path: Path) -> None:
    entry(cloud).bring(tmp_path / "m", make_model, repository="org/model")
    manifest = cloud.object(f"{PREFIX}/manifest.json").read_bytes()
    assert cloud.object(f"{PREFIX}/READY").read_text() == hashlib.sha256(manifest).hexdigest()
    assert b'"repository": "org/model"' in manifest


def test_ready_is_written_last(cloud: Cloud, tmp_path: Path) -> None:
    entry(cloud).bring(tmp_path / "m", make_model)
    written = [call[call.index("--key") + 1] for call in cloud.calls() if call[1] == "put-object"]
    names = [key.removeprefix(f"{PREFIX}/") for key in written if not key.endswith("fill.lock")]
    assert names == ["manifest.json", "READY"]


def test_a_restart_on_the_same_disk_asks_nobody(cloud: Cloud, tmp_path: Path) -> None:
    entry(cloud).bring(tmp_path / "m", make_model)
    before = len(cloud.calls())
    entry(cloud).bring(tmp_path / "m", must_not_make)
    assert len(cloud.calls()) == before


def test_of_many_instances_at_once_exactly_one_makes_the_content(cloud: Cloud, tmp_path: Path) -> None:
    made: list[str] = []

    def run(name: str) -> None:
        def make(folder: Path) -> None:
            made.append(name)
            make_model(folder)

        entry(cloud, name).bring(tmp_path / name, make)

    threads = [threading.Thread(target=run, args=(f"i-{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all((tmp_path / f"i-{number}" / ".ok").exists() for number in range(5))


def test_a_lock_that_nobody_renews_is_taken_over(cloud: Cloud, tmp_path: Path) -> None:
    assert entry(cloud, "i-dead").claim() is not None
    stale = time.time() - cache_module.STALE_S - 1
    os.utime(cloud.object(f"{PREFIX}/fill.lock"), (stale, stale))
    entry(cloud, "i-2").bring(tmp_path / "m", make_model)
    assert (tmp_path / "m" / ".ok").exists()


def test_an_instance_that_failed_once_goes_on_with_its_own_lock(cloud: Cloud, tmp_path: Path) -> None:
    assert entry(cloud, "i-1").claim() is not None
    entry(cloud, "i-1").bring(tmp_path / "m", make_model)
    assert (tmp_path / "m" / ".ok").exists()


def test_a_fresh_lock_is_respected(cloud: Cloud) -> None:
    assert entry(cloud, "i-1").claim() is not None
    waiting = threading.Thread(target=entry(cloud, "i-2").claim, daemon=True)
    waiting.start()
    waiting.join(timeout=0.5)
    assert waiting.is_alive()
    cloud.object(f"{PREFIX}/READY").write_text("x")
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_the_lock_is_renewed_while_the_work_goes_on(cloud: Cloud) -> None:
    cache = entry(cloud)
    etag = cache.claim()
    assert etag is not None
    lock = cloud.object(f"{PREFIX}/fill.lock")
    first = lock.read_text()
    with cache.renewed(etag):
        deadline = time.monotonic() + 10
        while lock.read_text() == first and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lock.read_text() != first


def test_content_that_differs_from_its_manifest_is_refused_and_not_kept(cloud: Cloud, tmp_path: Path) -> None:
    entry(cloud).bring(tmp_path / "m", make_model)
    cloud.object(f"{PREFIX}/files/model.safetensors").write_bytes(b"WEIGHTS" * 100)
    with pytest.raises(FatalError, match=r"model\.safetensors has another checksum"):
        entry(cloud).bring(tmp_path / "other", must_not_make)
    assert not (tmp_path / "other").exists()


def test_a_ready_of_another_manifest_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    entry(cloud).bring(tmp_path / "m", make_model)
    cloud.object(f"{PREFIX}/READY").write_text("0" * 64)
    with pytest.raises(FatalError, match="do not belong together"):
        entry(cloud).bring(tmp_path / "other", must_not_make)


def test_a_disk_that_is_too_small_is_said_before_copying(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry(cloud).bring(tmp_path / "m", make_model)
    monkeypatch.setattr(cache_module, "DISK_MARGIN", 1e12)
    with pytest.raises(FatalError, match="bytes of disk"):
        entry(cloud).bring(tmp_path / "other", must_not_make)


def test_an_interrupted_fill_leaves_nothing_that_looks_whole(cloud: Cloud, tmp_path: Path) -> None:
    def stop(folder: Path) -> None:
        make_model(folder)
        raise OSError("spot took it")

    with pytest.raises(OSError, match="spot"):
        entry(cloud).bring(tmp_path / "m", stop)
    assert not (tmp_path / "m").exists()
    assert not cloud.object(f"{PREFIX}/READY").exists()


def test_a_manifest_lists_every_file_and_check_names_what_differs(tmp_path: Path) -> None:
    make_model(tmp_path)
    manifest = manifest_of(tmp_path)
    assert check(tmp_path, manifest) == []
    (tmp_path / "sub" / "config.json").write_text("{ }")
    (tmp_path / "model.safetensors").unlink()
    assert check(tmp_path, manifest) == ["model.safetensors is missing", "sub/config.json has 3 bytes, not 2"]
