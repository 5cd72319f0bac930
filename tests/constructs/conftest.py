"""An instance for the code of instances: programs on PATH, a metadata service, settings as the CDK writes them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llm_fleet.planning import plan_fleet
from llm_fleet_constructs.boot.settings import PoolSurroundings, pool_settings
from llm_fleet_constructs.on_instance import cache as cache_module
from llm_fleet_constructs.on_instance import ready as ready_module
from llm_fleet_constructs.on_instance import weights as weights_module
from llm_fleet_constructs.on_instance.aws import Aws
from llm_fleet_constructs.on_instance.imds import Imds
from llm_fleet_constructs.on_instance.settings import Settings, load_settings

SURROUNDINGS = PoolSurroundings(
    pattern="startup-mvp",
    region="us-east-1",
    weights_bucket="weights-bucket",
    queue_url="https://queue",
    dead_letter_queue_url="https://dead",
    registry_table="registry",
    batch_table="batches",
    batch_files_bucket="files",
    batch_results_bucket="results",
    log_group="log",
)


@dataclass(frozen=True)
class Cloud:
    """The AWS CLI's stand-in, with what it keeps and was asked."""

    folder: Path
    aws: Aws

    def calls(self) -> list[list[str]]:
        """Words of every call, without region and output."""
        log = self.folder / "calls.log"
        return [json.loads(line)[4:] for line in log.read_text().splitlines()] if log.exists() else []

    def object(self, key: str) -> Path:
        """Where an object of the weights bucket lies."""
        return self.folder / "buckets" / "weights-bucket" / key


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty account."""
    folder = tmp_path / "cloud"
    folder.mkdir()
    program = tmp_path / "bin" / "aws"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "fake_aws.py"} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("FAKE_AWS", str(folder))
    return Cloud(folder, Aws("us-east-1", str(program)))


class _MetadataServer(ThreadingHTTPServer):
    """Holds what its handler answers."""

    texts: dict[str, str]


class _Metadata(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self._answer(200, "token-1")

    def do_GET(self) -> None:
        assert isinstance(self.server, _MetadataServer)
        text = self.server.texts.get(self.path.removeprefix("/latest/meta-data/"))
        if self.headers.get("X-aws-ec2-metadata-token") != "token-1":
            self._answer(401, "")
        elif text is None:
            self._answer(404, "")
        else:
            self._answer(200, text)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Instance:
    """A metadata service and what it says."""

    imds: Imds
    texts: dict[str, str]


@pytest.fixture
def instance() -> Iterator[Instance]:
    """A g4dn.xlarge of a group, in no trouble."""
    texts = {
        "instance-id": "i-0123456789abcdef0",
        "instance-type": "g4dn.xlarge",
        "local-ipv4": "127.0.0.1",
        "tags/instance/aws:autoscaling:groupName": "the-group",
        "autoscaling/target-lifecycle-state": "InService",
    }
    server = _MetadataServer(("127.0.0.1", 0), _Metadata)
    server.texts = texts
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Instance(Imds(f"http://127.0.0.1:{server.server_port}"), texts)
    server.shutdown()
    server.server_close()
    thread.join()


def settings_document(pattern: str = "startup-mvp", pool: int = 0) -> dict[str, Any]:
    """The document of a shipped pattern's pool, without the keys that the CDK would leave out."""
    document = pool_settings(plan_fleet(pattern).pools[pool], SURROUNDINGS)
    return json.loads(json.dumps(document), object_pairs_hook=lambda pairs: {k: v for k, v in pairs if v is not None})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """startup-mvp's pool, as an instance reads it."""
    return read_back(tmp_path, settings_document())


def settings_of(document: dict[str, Any]) -> Settings:
    """The document as an instance reads it."""
    with tempfile.TemporaryDirectory() as folder:
        return read_back(Path(folder), document)


def read_back(folder: Path, document: dict[str, Any]) -> Settings:
    """Write the document as user data does and read it as an instance does."""
    path = folder / "settings.json"
    path.write_text(json.dumps(document))
    return load_settings(path)


DOCKER = """#!/bin/bash
printf '%s\\n' "$*" >> "$DOCKER_LOG"
[[ "$*" == *"on_instance.hub commit"* ]] && echo 0123456789012345678901234567890123456789
if [[ "$*" == *"on_instance.hub download"* ]]; then
  target=$(printf '%s\\n' "$@" | sed -n 's|:/target$||p')
  printf weights > "$target/model.safetensors"
fi
exit 0
"""


@pytest.fixture
def docker_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker on PATH that notes its calls and downloads a small file; weights land below the test's folder."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir(exist_ok=True)
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_LOG", str(tmp_path / "docker.log"))
    monkeypatch.setattr(weights_module, "MODELS", tmp_path / "models")
    monkeypatch.setattr(weights_module, "MODEL_FOLDER", tmp_path / "models" / "m")
    monkeypatch.setattr(cache_module, "POLL_S", 0.02)
    return tmp_path / "docker.log"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl on PATH: units named in `failed` have failed, all others are up; calls go to `systemctl.log`."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        f'#!/bin/bash\necho "$*" >> {tmp_path}/systemctl.log\n'
        f'[[ $1 == is-failed ]] && {{ grep --quiet --line-regexp -- "$3" {tmp_path}/failed; exit; }}\nexit 0\n'
    )
    program.chmod(0o755)
    (tmp_path / "failed").write_text("")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(ready_module, "POLL_S", 0.02)
    return tmp_path


def hook_calls(cloud: Cloud) -> list[tuple[str, str]]:
    """Hooks that were completed, each with its result."""
    return [
        (call[call.index("--lifecycle-hook-name") + 1], call[-1])
        for call in cloud.calls()
        if call[1] == "complete-lifecycle-action"
    ]
