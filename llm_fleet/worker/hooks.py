"""The instance's place in its Auto Scaling group: lifecycle hooks, and the mark that has it replaced."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.json_log import JsonLog

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.client import AutoScalingClient

NOTHING_TO_COMPLETE = "No active Lifecycle Action"
"""What the service says of an instance that is past the hook, or not at it yet."""


class Hooks:
    """Of one instance. Calls never raise: the group goes on by its own time-outs."""

    def __init__(self, client: AutoScalingClient, group: str | None, instance_id: str, log: JsonLog) -> None:
        """Without a group, on a laptop, every call does nothing."""
        self._client = client
        self._group = group
        self._instance_id = instance_id
        self._log = log

    def complete(self, hook: str) -> bool:
        """Let the group go on. False: it was not told, try again."""
        if self._group is None:
            return True
        try:
            self._client.complete_lifecycle_action(
                AutoScalingGroupName=self._group,
                LifecycleHookName=hook,
                InstanceId=self._instance_id,
                LifecycleActionResult="CONTINUE",
            )
        except (ClientError, BotoCoreError) as error:
            over = NOTHING_TO_COMPLETE in str(error)
            self._log.event("hook_not_completed", hook=hook, error=str(error))
            return over
        self._log.event("hook_completed", hook=hook)
        return True

    def beat(self, hook: str, every_s: float, stopped: threading.Event) -> None:
        """Keep the group waiting at a hook until `stopped`: a thread's work."""
        while self._group is not None and not stopped.wait(every_s):
            try:
                self._client.record_lifecycle_action_heartbeat(
                    AutoScalingGroupName=self._group, LifecycleHookName=hook, InstanceId=self._instance_id
                )
            except (ClientError, BotoCoreError) as error:
                self._log.event("no_heartbeat", hook=hook, error=str(error))

    def mark_unhealthy(self) -> bool:
        """Have the group replace this instance. False: it was not told, try again."""
        if self._group is None:
            return True
        try:
            self._client.set_instance_health(InstanceId=self._instance_id, HealthStatus="Unhealthy")
        except (ClientError, BotoCoreError) as error:
            self._log.event("not_marked_unhealthy", error=str(error))
            return False
        self._log.event("marked_unhealthy")
        return True
