"""The command of one engine replica. The process becomes `docker run`, so that systemd watches the engine itself."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from .imds import Imds
from .settings import DATA, ServingPlan, Settings
from .weights import ARTIFACTS, MODELS


def run_engine(settings: Settings, imds: Imds, replica: int) -> None:
    """Replace this process by the engine of a replica. Returns only if that fails."""
    plan = settings.plan_for(imds.need("instance-type"))
    command = engine_command(settings, plan, replica, imds.need("local-ipv4"), sorted(glob.glob("/dev/neuron*")))
    os.execvp(command[0], command)


def engine_command(
    settings: Settings, plan: ServingPlan, replica: int, host: str, neuron_devices: Sequence[str]
) -> list[str]:
    """`docker run` for one replica: its own devices, its own port, no restart policy (systemd restarts), the engine
    as process 1.

    No log driver: what the engine says goes through this process into the unit's journal, once. The entry point is
    set because the images' own ones do not pass SIGTERM on, and then nothing would drain.
    """
    name = f"engine-{replica}"
    command = ["docker", "run", "--rm", "--name", name, "--network", "host", "--ipc", "host", "--ulimit", "memlock=-1"]
    command += ["--log-driver", "none", "--volume", f"{MODELS}:/models:ro", "--volume", f"{DATA / 'cache'}:/cache"]
    for key, value in settings.environment.items():
        command += ["--env", f"{key}={value}"]
    command += _devices(settings, plan, replica, neuron_devices)
    command += ["--entrypoint", "vllm", settings.image, "serve", "/models/m", *plan.arguments]
    return [*command, "--host", host, "--port", str(settings.port + replica)]


def _devices(settings: Settings, plan: ServingPlan, replica: int, neuron_devices: Sequence[str]) -> list[str]:
    first, count = replica * plan.devices_per_replica, plan.devices_per_replica
    if settings.vendor == "nvidia":
        indices = ",".join(str(index) for index in range(first, first + count))
        return ["--gpus", f'"device={indices}"']
    cores = str(first) if count == 1 else f"{first}-{first + count - 1}"
    options = [f"--device={device}" for device in neuron_devices] + ["--env", f"NEURON_RT_VISIBLE_CORES={cores}"]
    if plan.artifacts_key is not None:
        folder = ARTIFACTS / plan.artifacts_key.replace("/", "--")
        options += ["--volume", f"{folder}:{settings.artifacts_folder}"]
    return options
