"""From started to serving: engines up, a token generated, artefacts published, worker up, launch hook completed. Or
given up, loudly.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

from .aws import Aws, AwsError
from .cache import Cache
from .imds import Imds
from .settings import FatalError, ServingPlan, Settings
from .weights import ARTIFACTS, TO_PUBLISH

LONGEST_BOOT_S = 7200
"""Two hours: weights from the Hub and a compilation of an hour. Whatever hangs longer is given up."""
POLL_S = 5
FIRST_TOKEN_S = 300
WORKER = "llm-worker.service"
NOTHING_TO_COMPLETE = "No active Lifecycle Action"
"""What the service says of an instance that is past its hook."""
STEPS = ("llm-disk.service", "llm-image.service", "llm-weights.service")


def run_ready(settings: Settings, aws: Aws, imds: Imds) -> None:
    """Bring the instance into service.

    Raises:
        FatalError: a step failed for good, or two hours went by; the launch hook is abandoned first, so the group
            replaces the instance.
    """
    group = imds.need("tags/instance/aws:autoscaling:groupName")
    instance_id = imds.need("instance-id")
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(settings, aws, group, instance_id, done), daemon=True)
    heart.start()
    try:
        plan = settings.plan_for(imds.need("instance-type"))
        bring_up(settings, aws, plan, imds.need("local-ipv4"), instance_id)
        print(f"{plan.instance_type} serves {settings.served_model_name} with {plan.replicas} engines", flush=True)
        if settings.worker_image is None:
            complete(aws, group, settings.launch_hook, instance_id, "CONTINUE")
        else:
            start_worker(settings, aws, group, instance_id)
    except FatalError:
        complete(aws, group, settings.launch_hook, instance_id, "ABANDON")
        raise
    finally:
        done.set()


def bring_up(settings: Settings, aws: Aws, plan: ServingPlan, host: str, owner: str) -> None:
    """Start the engines and wait for a token of each. Where this instance compiles, the first engine does it alone,
    then all share it.
    """
    deadline = time.monotonic() + LONGEST_BOOT_S
    first, rest = range(1), range(1, plan.replicas)
    _systemctl("start", "--no-block", *STEPS)
    while not _done("llm-weights.service"):
        _give_up_if_failed(STEPS, deadline)
        time.sleep(POLL_S)
    if plan.artifacts_key is not None and TO_PUBLISH.exists():
        cache = Cache(aws, settings.weights_bucket, plan.artifacts_key, owner)
        folder = ARTIFACTS / plan.artifacts_key.replace("/", "--")
        with cache.renewed(TO_PUBLISH.read_text()):
            _start_and_wait(settings, host, first, deadline)
            cache.publish(folder, image=settings.image)
        (folder / ".ok").touch()
        TO_PUBLISH.unlink()
    _start_and_wait(settings, host, (*first, *rest), deadline)


def start_worker(settings: Settings, aws: Aws, group: str, instance_id: str) -> None:
    """Start the worker and stay until it has completed the launch hook, so that a worker that cannot start gives the
    instance up.
    """
    deadline = time.monotonic() + LONGEST_BOOT_S
    _systemctl("start", "--no-block", WORKER)
    while _waits_at_hook(aws, group, settings.launch_hook, instance_id):
        _give_up_if_failed((WORKER,), deadline)
        time.sleep(POLL_S)
    print("the worker has taken over", flush=True)


def _waits_at_hook(aws: Aws, group: str, hook: str, instance_id: str) -> bool:
    """Whether the hook still takes heartbeats: the only way to ask without a right to read the whole group."""
    try:
        aws.lifecycle("record-lifecycle-action-heartbeat", group, hook, instance_id)
    except AwsError as error:
        return NOTHING_TO_COMPLETE not in str(error)
    return True


def _start_and_wait(settings: Settings, host: str, replicas: Sequence[int], deadline: float) -> None:
    units = [f"llm-engine@{replica}.service" for replica in replicas]
    _systemctl("start", "--no-block", *units)
    for replica in replicas:
        while not generated_a_token(f"http://{host}:{settings.port + replica}", settings.served_model_name):
            _give_up_if_failed((*STEPS, *units), deadline)
            time.sleep(POLL_S)


def _give_up_if_failed(units: Sequence[str], deadline: float) -> None:
    failed = [unit for unit in units if _systemctl("is-failed", "--quiet", unit) == 0]
    if failed:
        raise FatalError(f"{', '.join(failed)} failed; its journal says why")
    if time.monotonic() > deadline:
        raise FatalError(f"not serving after {LONGEST_BOOT_S} s")


def generated_a_token(url: str, model: str) -> bool:
    """Whether the engine at `url` is up and answers a one-token completion."""
    body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 1}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=FIRST_TOKEN_S) as answer:
            return bool(json.load(answer)["usage"]["completion_tokens"])
    except (OSError, ValueError, KeyError, urllib.error.URLError):
        return False


def complete(aws: Aws, group: str, hook: str, instance_id: str, result: str) -> None:
    """Complete a hook. An instance that is past it (a reboot) is told so by the service, and that is fine."""
    try:
        aws.lifecycle("complete-lifecycle-action", group, hook, instance_id, "--lifecycle-action-result", result)
    except AwsError as error:
        if NOTHING_TO_COMPLETE not in str(error):
            raise
        print(f"hook {hook}: nothing to complete", flush=True)


def _beat(settings: Settings, aws: Aws, group: str, instance_id: str, done: threading.Event) -> None:
    """Heartbeats at a third of the hook's time, so that a long first boot is not cut off."""
    while not done.wait(settings.launch_hook_s / 3):
        try:
            aws.lifecycle("record-lifecycle-action-heartbeat", group, settings.launch_hook, instance_id)
        except AwsError as error:
            print(f"no heartbeat: {error}", flush=True)


def _done(unit: str) -> bool:
    return _systemctl("is-active", "--quiet", unit) == 0


def _systemctl(*arguments: str) -> int:
    return subprocess.run(["systemctl", *arguments], check=False).returncode
