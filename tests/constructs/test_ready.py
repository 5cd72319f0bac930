"""When an instance counts as serving, and when it is given up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llm_fleet_constructs.on_instance import cache as cache_module
from llm_fleet_constructs.on_instance import ready as ready_module
from llm_fleet_constructs.on_instance.ready import complete, generated_a_token, run_ready
from llm_fleet_constructs.on_instance.settings import FatalError, Settings
from tests.constructs.conftest import Cloud, Instance, hook_calls, settings_document, settings_of


class _EngineServer(ThreadingHTTPServer):
    """Knows one model."""

    model: str


class _Engine(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, _EngineServer)
        known = body["model"] == self.server.model
        answer = json.dumps({"usage": {"completion_tokens": 1}} if known else {"error": "unknown model"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def engine(settings: Settings) -> Iterator[int]:
    """An engine that serves the model; its port."""
    server = _EngineServer(("127.0.0.1", 0), _Engine)
    server.model = settings.served_model_name
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def on_port(settings: Settings, port: int, **changes: object) -> Settings:
    return type(settings)(**{**vars(settings), "port": port, **changes})


def test_ready_means_that_a_token_was_generated(settings: Settings, engine: int) -> None:
    assert generated_a_token(f"http://127.0.0.1:{engine}", settings.served_model_name)
    assert not generated_a_token(f"http://127.0.0.1:{engine}", "another model")
    assert not generated_a_token("http://127.0.0.1:9", settings.served_model_name)


def test_an_instance_enters_service_once_its_engine_generated_a_token(
    settings: Settings, engine: int, cloud: Cloud, instance: Instance, systemd: Path
) -> None:
    run_ready(on_port(settings, engine), cloud.aws, instance.imds)
    assert hook_calls(cloud) == [("launch", "CONTINUE")]
    assert "start --no-block llm-engine@0.service" in (systemd / "systemctl.log").read_text()


def test_where_there_is_a_worker_it_is_started_and_left_to_complete_the_hook(
    settings: Settings, engine: int, cloud: Cloud, instance: Instance, systemd: Path
) -> None:
    """Heartbeats hold the hook until the service says that it is over."""
    ready = threading.Thread(
        target=run_ready,
        args=(on_port(settings, engine, worker_image="image"), cloud.aws, instance.imds),
        daemon=True,
    )
    ready.start()
    while not any(call[1] == "record-lifecycle-action-heartbeat" for call in cloud.calls()):
        assert ready.is_alive()
        time.sleep(0.02)
    assert hook_calls(cloud) == []
    (cloud.folder / "no-hook").touch()
    ready.join()
    assert hook_calls(cloud) == []
    started = (systemd / "systemctl.log").read_text()
    assert started.index("start --no-block llm-engine@0.service") < started.index("start --no-block llm-worker.service")


def test_a_worker_that_cannot_be_kept_running_gives_the_instance_up(
    settings: Settings, engine: int, cloud: Cloud, instance: Instance, systemd: Path
) -> None:
    (systemd / "failed").write_text("llm-worker.service\n")
    with pytest.raises(FatalError, match=r"llm-worker\.service failed"):
        run_ready(on_port(settings, engine, worker_image="image"), cloud.aws, instance.imds)
    assert hook_calls(cloud) == [("launch", "ABANDON")]


def test_an_instance_is_marked_unhealthy_by_its_id(cloud: Cloud) -> None:
    cloud.aws.mark_unhealthy("i-1")
    assert cloud.calls()[0] == [
        "autoscaling",
        "set-instance-health",
        "--instance-id",
        "i-1",
        "--health-status",
        "Unhealthy",
    ]


def test_a_step_that_failed_for_good_gives_the_instance_up_and_names_the_step(
    settings: Settings, cloud: Cloud, instance: Instance, systemd: Path
) -> None:
    (systemd / "failed").write_text("llm-engine@0.service\n")
    with pytest.raises(FatalError, match=r"llm-engine@0\.service failed"):
        run_ready(on_port(settings, 9), cloud.aws, instance.imds)
    assert hook_calls(cloud) == [("launch", "ABANDON")]


def test_a_boot_that_hangs_is_given_up(
    settings: Settings, cloud: Cloud, instance: Instance, systemd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_module, "LONGEST_BOOT_S", -1)
    with pytest.raises(FatalError, match="not serving after"):
        run_ready(on_port(settings, 9), cloud.aws, instance.imds)
    assert hook_calls(cloud) == [("launch", "ABANDON")]


def test_after_a_reboot_there_is_no_hook_to_complete_and_that_is_fine(cloud: Cloud) -> None:
    (cloud.folder / "no-hook").touch()
    complete(cloud.aws, "the-group", "launch", "i-1", "CONTINUE")


def test_the_instance_that_compiles_shares_what_it_compiled_before_it_serves(
    cloud: Cloud, instance: Instance, systemd: Path, engine: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "artifacts/abc"
    document = settings_document()
    document["instance_types"]["g4dn.xlarge"]["artifacts_key"] = key
    compiled = systemd / "artifacts" / "artifacts--abc"
    compiled.mkdir(parents=True)
    (compiled / "model.pt").write_text("compiled")
    (systemd / "lock").write_text(str(cache_module.Cache(cloud.aws, "weights-bucket", key, "i-1").claim()))
    monkeypatch.setattr(ready_module, "ARTIFACTS", systemd / "artifacts")
    monkeypatch.setattr(ready_module, "TO_PUBLISH", systemd / "lock")
    run_ready(on_port(settings_of(document), engine), cloud.aws, instance.imds)
    assert cloud.object(f"{key}/files/model.pt").read_text() == "compiled"
    assert cloud.object(f"{key}/READY").exists()
    assert hook_calls(cloud) == [("launch", "CONTINUE")]
