"""The local cloud itself: on loopback only, ends with all that it started, is never mistaken for AWS."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from localcloud import child as module
from localcloud.cdk import run_cdk
from localcloud.child import LocalCloudError
from localcloud.cloud import LocalCloud, is_healthy


def test_it_listens_on_one_loopback_address_only(cloud: LocalCloud) -> None:
    assert is_healthy(cloud.endpoint_url)
    with pytest.raises(OSError, match=r"refused|unreachable|assign"):
        socket.create_connection(("127.0.0.2", cloud.port), timeout=2)


def test_after_the_block_nothing_of_it_is_left() -> None:
    with LocalCloud() as short_lived:
        assert is_healthy(short_lived.endpoint_url)
    assert not is_healthy(short_lived.endpoint_url)
    assert not short_lived.folder.exists()


def test_two_of_them_run_beside_each_other(cloud: LocalCloud) -> None:
    with LocalCloud() as other:
        other.session().client("sqs", endpoint_url=other.endpoint_url).create_queue(QueueName="only-there")
        queues = cloud.session().client("sqs", endpoint_url=cloud.endpoint_url).list_queues(QueueNamePrefix="only")
    assert not queues.get("QueueUrls")


def test_a_client_process_gets_none_of_the_users_aws_settings(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "https://sqs.example.com")
    environment = cloud.environment()
    assert environment["AWS_ENDPOINT_URL"] == cloud.endpoint_url
    assert not environment.keys() & {"AWS_PROFILE", "AWS_ENDPOINT_URL_SQS"}
    assert environment["AWS_CONFIG_FILE"] == os.devnull


def test_a_cloud_that_cannot_start_says_why_and_where_its_log_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / ".venv-cloud" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho no memory left\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    broken = LocalCloud()
    with pytest.raises(LocalCloudError, match=r"ended with code 3:\n.*cloud.log, last lines:\n  no memory left"):
        broken.start()
    shutil.rmtree(broken.folder)


def test_a_failing_command_shows_the_end_of_its_output(cloud: LocalCloud, tmp_path: Path) -> None:
    with pytest.raises(LocalCloudError, match=r"cdk deploy.* failed with code 1\n.*cdk-deploy.log, last lines:\n"):
        run_cdk(cloud, "deploy", "nothing-of-that-name", "--app", str(tmp_path))
