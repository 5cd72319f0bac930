"""How an instance leaves: its engines finish, then the hook goes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from llm_fleet_constructs.on_instance import leave as leave_module
from llm_fleet_constructs.on_instance.leave import watch
from llm_fleet_constructs.on_instance.settings import Settings
from tests.constructs.conftest import Cloud, Instance, hook_calls


@pytest.fixture
def fast_leave(monkeypatch: pytest.MonkeyPatch, docker_log: Path, systemd: Path) -> Path:
    monkeypatch.setattr(leave_module, "POLL_S", 0.02)
    return docker_log


def test_scale_in_drains_with_the_pools_time_and_lets_the_hook_go(
    settings: Settings, cloud: Cloud, instance: Instance, fast_leave: Path
) -> None:
    instance.texts["autoscaling/target-lifecycle-state"] = "Terminated"
    watch(settings, cloud.aws, instance.imds)
    assert f"stop -t {settings.drain_s} engine-0" in fast_leave.read_text()
    assert hook_calls(cloud) == [("drain", "CONTINUE")]


def test_a_spot_notice_drains_within_the_two_minutes(
    settings: Settings, cloud: Cloud, instance: Instance, fast_leave: Path
) -> None:
    instance.texts["spot/instance-action"] = '{"action":"terminate"}'
    watch(settings, cloud.aws, instance.imds)
    assert "stop -t 100 engine-0" in fast_leave.read_text()


def test_an_instance_in_service_stays(settings: Settings, cloud: Cloud, instance: Instance, fast_leave: Path) -> None:
    thread = threading.Thread(target=watch, args=(settings, cloud.aws, instance.imds), daemon=True)
    thread.start()
    thread.join(timeout=0.3)
    assert thread.is_alive()
    instance.texts["autoscaling/target-lifecycle-state"] = "Terminated"
    thread.join(timeout=10)
    assert not thread.is_alive()
