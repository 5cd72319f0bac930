"""Keeps a gateway task in touch with the fleet: who serves, who else routes, how much waits.

    every REFRESH_S     workers of each pool -> Balancer
    every PRESENCE_S    its own entry -> registry; the other tasks' entries -> limits, sums
    every PUBLISH_S     workers, backlog and work under way of each pool -> CloudWatch

A pool's Backlog and InFlight are those of all tasks and the queue together, its Workers those that the registry shows
alive, whatever their state. Each task publishes the same numbers, so the statistic is the maximum. AWS not answering is
logged and never fatal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.cloudwatch import Publisher
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.json_log import JsonLog
from llm_fleet.registry import EXPIRES_AFTER_S, GATEWAYS, REFRESH_S, GatewayEntry, Registry, WorkerEntry

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

READ_S = 2.0
"""How old the gateway's picture of the workers may be."""
PUBLISH_S = 10.0
TRUST_S = 60.0
"""How long the last picture is believed while the registry does not answer: its outage must not become ours, and after
that the addresses may belong to someone else.
"""


class Membership:
    """Of one gateway task."""

    def __init__(
        self,
        settings: GatewaySettings,
        task_id: str,
        registry: Registry,
        sqs: SQSClient,
        balancer: Balancer,
        waiting_room: WaitingRoom,
        limits: Limits,
        waker: Waker,
        publisher: Publisher,
        log: JsonLog,
    ) -> None:
        self._settings = settings
        self._task_id = task_id
        self._registry = registry
        self._sqs = sqs
        self._balancer = balancer
        self._waiting_room = waiting_room
        self._limits = limits
        self._waker = waker
        self._publisher = publisher
        self._log = log
        self._workers: dict[str, Sequence[WorkerEntry]] = {}
        self._read_at: dict[str, float] = {}
        self._others: Sequence[GatewayEntry] = ()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run in the background of the running loop."""
        self._task = asyncio.create_task(self.run(), name="membership")

    async def stop(self) -> None:
        """Stop, publish what waits and leave the registry, as far as AWS answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._try("leave", lambda: asyncio.to_thread(self._registry.remove, GATEWAYS, self._task_id))
        await self._try("publish", lambda: asyncio.to_thread(self._publisher.flush))

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(
            self._every(READ_S, "read_workers", self.read_workers),
            self._every(REFRESH_S, "meet_gateways", self.meet_gateways),
            self._every(PUBLISH_S, "publish", self.publish),
        )

    async def read_workers(self) -> None:
        """Tell the balancer who serves. Raises botocore's errors of the pools that could not be read, after all."""
        await _all([self._read_pool(pool) for pool in self._settings.pools])

    async def meet_gateways(self) -> None:
        """Write this task's entry and read the others'. Raises botocore's errors."""
        pools = self._settings.pools
        entry = GatewayEntry(
            self._task_id,
            time.time() + EXPIRES_AFTER_S,
            {pool: self._waiting_room.waiting(pool) for pool in pools},
            {pool: self._balancer.outstanding(pool) for pool in pools},
        )
        await asyncio.to_thread(self._registry.put, entry)
        alive = await asyncio.to_thread(self._registry.gateways, time.time())
        self._others = [other for other in alive if other.task_id != self._task_id]
        self._limits.tasks = 1 + len(self._others)

    async def publish(self) -> None:
        """Publish every pool's sums. A pool whose queue does not answer publishes none: a number without the queue's
        part would look like an idle pool, and a missing one never scales in. Raises botocore's errors, after all.
        """
        for pool in self._settings.pools:
            self._publisher.level("Workers", pool, len(self._workers.get(pool, ())))
        try:
            await _all([self._sum_up(pool) for pool in self._settings.pools])
        finally:
            await asyncio.to_thread(self._publisher.flush)

    async def _read_pool(self, pool: str) -> None:
        now = time.monotonic()
        try:
            self._workers[pool] = await asyncio.to_thread(self._registry.workers, pool, time.time())
            self._read_at[pool] = now
        except (ClientError, BotoCoreError):
            if now - self._read_at.get(pool, now) > TRUST_S:
                self._workers[pool] = ()
            raise
        finally:
            workers = self._workers.get(pool, ())
            self._balancer.learn(pool, workers, self._limits.tasks)
            if any(worker.state == "serving" for worker in workers):
                self._waker.awake(pool)

    async def _sum_up(self, pool: str) -> None:
        queue = await asyncio.to_thread(
            self._sqs.get_queue_attributes,
            QueueUrl=self._settings.pools[pool].queue_url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        counts = queue["Attributes"]
        waiting = self._waiting_room.waiting(pool) + sum(other.waiting.get(pool, 0) for other in self._others)
        running = self._balancer.outstanding(pool) + sum(other.running.get(pool, 0) for other in self._others)
        self._publisher.level("Backlog", pool, int(counts["ApproximateNumberOfMessages"]) + waiting)
        self._publisher.level("InFlight", pool, int(counts["ApproximateNumberOfMessagesNotVisible"]) + running)

    async def _every(self, seconds: float, name: str, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._try(name, job)
            await asyncio.sleep(seconds)

    async def _try(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except (ClientError, BotoCoreError) as error:
            self._log.event("membership_failed", act=name, error=str(error))


async def _all(jobs: Sequence[Awaitable[None]]) -> None:
    """Run all to their end, then raise the first error."""
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
