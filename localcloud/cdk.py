"""Run the real CDK CLI against a local cloud, in the project's folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from localcloud.child import ROOT, LocalCloudError, ending_with_us, tail
from localcloud.cloud import ACCOUNT, LocalCloud, node_binary


def run_cdk(cloud: LocalCloud, *arguments: str, folder: Path = ROOT) -> str:
    """Run `cdk ARGUMENTS` and return what it printed.

    Raises:
        LocalCloudError: it failed; the message ends with the last lines of its output and the path of all of it.
    """
    command = [node_binary(), ROOT / "node_modules" / "aws-cdk" / "bin" / "cdk", *arguments]
    log = cloud.folder / f"cdk-{arguments[0]}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            ending_with_us(command),
            cwd=folder,
            env=cloud.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if done.returncode != 0:
        raise LocalCloudError(f"cdk {' '.join(arguments)} failed with code {done.returncode}\n{tail(log, 30)}")
    return log.read_text(errors="replace")


def bootstrap(cloud: LocalCloud) -> str:
    """Create the bucket, the roles and the parameter of CDK deployments, from a folder without an app to synthesise."""
    return run_cdk(cloud, "bootstrap", f"aws://{ACCOUNT}/{cloud.region}", folder=cloud.folder)
