"""The way out: when the group or EC2 takes the instance, stop the engines in time and let the terminate hook go.

Only for instances without a queue worker: where there is one, it does this, and hands its work back too.
"""

from __future__ import annotations

import subprocess
import time

from .aws import Aws, AwsError
from .imds import Imds
from .ready import complete
from .settings import Settings

POLL_S = 5
SPOT_BUDGET_S = 100
"""Of the two minutes between spot notice and the end, what the engines get to finish."""


def watch(settings: Settings, aws: Aws, imds: Imds) -> None:
    """Return when the instance has left: engines drained, hook completed. A metadata service that is silent means
    "unknown": go on.
    """
    while True:
        try:
            spot = imds.get("spot/instance-action") is not None
            leaving = spot or imds.get("autoscaling/target-lifecycle-state") == "Terminated"
        except OSError as error:
            print(f"metadata unknown: {error}", flush=True)
            leaving = spot = False
        if leaving:
            leave(settings, aws, imds, min(settings.drain_s, SPOT_BUDGET_S) if spot else settings.drain_s)
            return
        time.sleep(POLL_S)


def leave(settings: Settings, aws: Aws, imds: Imds, budget_s: int) -> None:
    """Stop every engine within `budget_s`, then complete the terminate hook."""
    replicas = settings.plan_for(imds.need("instance-type")).replicas
    print(f"leaving; {replicas} engines get {budget_s} s to finish", flush=True)
    names = [f"engine-{replica}" for replica in range(replicas)]
    # SIGTERM through docker first: it takes the budget at hand, which systemd's own timeout does not know.
    subprocess.run(["docker", "stop", "-t", str(budget_s), *names], check=False)
    subprocess.run(
        ["systemctl", "stop", *(f"llm-engine@{replica}.service" for replica in range(replicas))], check=False
    )
    group = imds.need("tags/instance/aws:autoscaling:groupName")
    try:
        complete(aws, group, settings.terminate_hook, imds.need("instance-id"), "CONTINUE")
    except AwsError as error:
        print(f"the terminate hook ends by its own time: {error}", flush=True)
