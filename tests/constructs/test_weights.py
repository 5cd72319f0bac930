"""How weights get onto an instance."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_fleet_constructs.on_instance.settings import FatalError, Settings
from llm_fleet_constructs.on_instance.weights import fetch_weights, pull_images
from tests.constructs.conftest import Cloud, read_back, settings_document


def test_weights_are_served_from_one_place_whatever_the_model(
    settings: Settings, cloud: Cloud, docker_log: Path, tmp_path: Path
) -> None:
    fetch_weights(settings, cloud.aws, "i-1")
    assert (tmp_path / "models" / "m" / "model.safetensors").read_text() == "weights"


def test_the_hubs_token_travels_by_environment_and_never_in_a_command_line(
    settings: Settings, cloud: Cloud, docker_log: Path
) -> None:
    fetch_weights(settings, cloud.aws, "i-1")
    assert any(call[:2] == ["secretsmanager", "get-secret-value"] for call in cloud.calls())
    assert "secret of" not in docker_log.read_text()
    assert "--env HF_TOKEN " in docker_log.read_text()


def test_a_commit_that_the_pattern_does_not_name_is_written_down_by_the_first_and_followed_by_all(
    settings: Settings, cloud: Cloud, docker_log: Path, tmp_path: Path
) -> None:
    pin = cloud.object(f"weights/{settings.repository}/PINNED")
    pin.parent.mkdir(parents=True)
    pin.write_text("f" * 40)
    fetch_weights(settings, cloud.aws, "i-2")
    assert "hub commit" not in docker_log.read_text()
    assert f"hub download {settings.repository} {'f' * 40} /target" in docker_log.read_text()


def test_the_images_of_engine_and_worker_are_pulled_each_from_its_registry(
    settings: Settings, cloud: Cloud, docker_log: Path
) -> None:
    worker_image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/llm-fleet:1"
    pull_images(type(settings)(**{**vars(settings), "worker_image": worker_image}), cloud.aws)
    calls = docker_log.read_text().splitlines()
    assert calls[0].startswith("login ")
    assert calls[1:] == [f"pull --quiet {worker_image}", f"pull --quiet {settings.image}"]


def test_a_pattern_without_a_repository_gives_up_at_once_and_says_what_to_set(
    cloud: Cloud, docker_log: Path, tmp_path: Path
) -> None:
    document = settings_document()
    del document["model"]["repository"]
    with pytest.raises(FatalError, match=r"set weights\.repository in the pattern"):
        fetch_weights(read_back(tmp_path, document), cloud.aws, "i-1")
    assert not docker_log.exists()
