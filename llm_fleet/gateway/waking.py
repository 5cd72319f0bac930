"""Wakes a pool that has no worker: orders its first instance at once, without waiting for an alarm.

LaunchInstances first: it answers with the ids of what was launched or with each refusal, zone by zone. Where it is
refused everywhere, or not supported, SetDesiredCapacity: the group then tries by itself until it succeeds.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.gateway.settings import PoolSettings
from llm_fleet.json_log import JsonLog

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.client import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef

TRY_AGAIN_S = 30.0
"""After a wake that nobody took: no permission, no such group, no answer."""
LEAST_RETRY_S = 10.0
"""Retry-After of a pool whose instance is due, or overdue."""
SAME_WAKE_S = 60
"""Gateway tasks that wake a pool within the same minute launch one instance: they send the same token."""
STOP_S = 2.0


@dataclass
class _Wake:
    began_at: float
    thread: threading.Thread
    refused: threading.Event = field(default_factory=threading.Event)

    def lasts_s(self, boot_s: float) -> float:
        """How long no other wake is needed."""
        return min(TRY_AGAIN_S, boot_s) if self.refused.is_set() else boot_s


class Waker:
    """Of one gateway task. Call it from one thread; its own threads talk to AWS."""

    def __init__(self, client: AutoScalingClient, pools: Mapping[str, PoolSettings], log: JsonLog) -> None:
        self._client = client
        self._pools = pools
        self._log = log
        self._wakes: dict[str, _Wake] = {}

    def wake(self, pool: str) -> float:
        """See to it that an instance of the pool was ordered; the seconds until it may serve, for Retry-After: what is
        left of the longest boot that the pool's launch hook allows.
        """
        boot_s = self._pools[pool].launch_hook_seconds
        now = time.monotonic()
        wake = self._wakes.get(pool)
        if wake is None or (not wake.thread.is_alive() and now - wake.began_at >= wake.lasts_s(boot_s)):
            wake = self._wakes[pool] = _Wake(now, threading.Thread(target=self._order, args=(pool,), daemon=True))
            wake.thread.start()
        if wake.refused.is_set():
            return float(boot_s)
        return max(LEAST_RETRY_S, wake.began_at + boot_s - now)

    def awake(self, pool: str) -> None:
        """The pool has a worker that serves: should it fall to zero again, the next request wakes it anew."""
        wake = self._wakes.get(pool)
        if wake is not None and not wake.thread.is_alive():
            del self._wakes[pool]

    def stop(self) -> None:
        """Wait a little for the calls under way."""
        for wake in self._wakes.values():
            wake.thread.join(STOP_S)

    def _order(self, pool: str) -> None:
        wake = self._wakes[pool]
        group = self._pools[pool].group_name
        try:
            outcome = self._order_first_instance(self._pools[pool])
        except (ClientError, BotoCoreError) as error:
            wake.refused.set()
            self._log.event("wake", pool=pool, group=group, outcome="failed", error=str(error))
        else:
            self._log.event("wake", pool=pool, group=group, **outcome)

    def _order_first_instance(self, settings: PoolSettings) -> dict[str, Any]:
        found = self._group(settings.group_name)
        if found["DesiredCapacity"] > 0:
            return {"outcome": "ordered before", "desired_units": found["DesiredCapacity"]}
        ids, refusals = self._launch(found, settings.units_per_instance)
        if ids:
            return {"outcome": "launched", "instance_ids": ids, "refusals": refusals}
        # Time has passed; a larger size that someone set meanwhile must not be lowered.
        desired_units = self._group(settings.group_name)["DesiredCapacity"]
        if desired_units > 0:
            return {"outcome": "ordered before", "desired_units": desired_units, "refusals": refusals}
        units = min(settings.units_per_instance, settings.max_units)
        self._client.set_desired_capacity(
            AutoScalingGroupName=settings.group_name, DesiredCapacity=units, HonorCooldown=False
        )
        return {"outcome": "desired capacity set", "desired_units": units, "refusals": refusals}

    def _group(self, name: str) -> AutoScalingGroupTypeDef:
        groups = self._client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        if not groups:
            message = f"there is no Auto Scaling group {name}"
            raise ClientError({"Error": {"Code": "NoSuchGroup", "Message": message}}, "DescribeAutoScalingGroups")
        return groups[0]

    def _launch(self, group: AutoScalingGroupTypeDef, units: int) -> tuple[list[str], list[str]]:
        """Ids of what was launched, and the refusals before that. A call takes one place, so each gets its turn."""
        subnets = [subnet for subnet in group.get("VPCZoneIdentifier", "").split(",") if subnet]
        places: list[dict[str, Any]] = [{"SubnetIds": [subnet]} for subnet in subnets]
        places = places or [{"AvailabilityZones": [zone]} for zone in group["AvailabilityZones"]]
        refusals: list[str] = []
        for place in places:
            where = next(iter(place.values()))[0]
            token = f"{group['AutoScalingGroupName']} {where} {int(time.time()) // SAME_WAKE_S}"
            try:
                answer = self._client.launch_instances(
                    AutoScalingGroupName=group["AutoScalingGroupName"],
                    RequestedCapacity=units,
                    RetryStrategy="none",
                    ClientToken=hashlib.sha256(token.encode()).hexdigest(),
                    **place,
                )
            except (ClientError, BotoCoreError) as error:
                return [], [*refusals, f"{where}: {error}"]
            ids = [id for launched in answer.get("Instances", ()) for id in launched.get("InstanceIds", ())]
            if ids:
                return ids, refusals
            refusals += [
                f"{where}: {refusal.get('InstanceType', 'any type')} {refusal.get('MarketType', '')} "
                f"{refusal.get('ErrorCode', '')}: {refusal.get('ErrorMessage', '')}"
                for refusal in answer.get("Errors", ())
            ]
        return [], refusals
