"""A gateway task and its fleet, on the local cloud's tables, queues and metrics."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.cloudwatch import Publisher
from llm_fleet.gateway import membership as module
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.membership import Membership
from llm_fleet.gateway.settings import GatewaySettings
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.json_log import JsonLog
from llm_fleet.registry import Engine, GatewayEntry, Registry, WorkerEntry
from localcloud.cloud import LocalCloud, free_port

POOL = "cost_efficient"


@pytest.fixture
def cloud(shared_cloud: LocalCloud) -> LocalCloud:
    return shared_cloud


def silent_client(service: str) -> Any:
    """A client of an endpoint where nobody listens."""
    make: Any = boto3.client
    return make(
        service,
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1),
    )


class Fleet:
    """A registry, a queue and a pattern of its own on the local cloud."""

    def __init__(self, cloud: LocalCloud, name: str) -> None:
        self._cloud = cloud
        self.name = name[-60:]
        self.dynamodb = self.client("dynamodb")
        self.sqs = self.client("sqs")
        self.dynamodb.create_table(
            TableName=self.name,
            KeySchema=[
                {"AttributeName": "pool", "KeyType": "HASH"},
                {"AttributeName": "worker_id", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pool", "AttributeType": "S"},
                {"AttributeName": "worker_id", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        self.registry = Registry(self.dynamodb, self.name)
        self.queue_url = self.sqs.create_queue(QueueName=self.name)["QueueUrl"]

    def client(self, service: str) -> Any:
        make: Any = self._cloud.session().client
        return make(service, endpoint_url=self._cloud.endpoint_url)

    def settings(self) -> GatewaySettings:
        pool = {
            "queue_url": self.queue_url,
            "dead_letter_queue_url": self.queue_url,
            "group_name": "a-group",
            "fallback": (),
            "served_model_name": "small",
            "max_model_len_tokens": 8192,
            "expected_output_tokens": 256,
            "engine_keep_alive_seconds": 5,
            "units_per_instance": 1,
            "max_units": 8,
            "launch_hook_seconds": 900,
            "usd_per_million_output_tokens": None,
        }
        return GatewaySettings.model_validate(
            {
                "version": 2,
                "pattern": self.name,
                "region": "us-east-1",
                "metrics_namespace": "LlmFleet",
                "registry_table": self.name,
                "batch_table": "batches",
                "keys_table": "keys",
                "batch_files_bucket": "files",
                "batch_results_bucket": "results",
                "routes": {POOL: POOL},
                "pools": {POOL: pool},
            }
        )

    def statistics(self, metric: str) -> dict[str, float]:
        now = datetime.now(UTC)
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace="LlmFleet",
            MetricName=metric,
            Dimensions=[{"Name": "Pattern", "Value": self.name}, {"Name": "Pool", "Value": POOL}],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=10),
            Period=3600,
            Statistics=["Maximum", "SampleCount"],
        )["Datapoints"]
        return points[0] if points else {}


class Task:
    """One gateway task's part that decides and counts."""

    def __init__(self, fleet: Fleet, task_id: str = "task-1") -> None:
        self.log = io.StringIO()
        log = JsonLog("gateway", self.log)
        settings = fleet.settings()
        self.balancer = Balancer()
        self.room = WaitingRoom(self.balancer)
        self.limits = Limits()
        self.waker = Waker(fleet.client("autoscaling"), settings.pools, log)
        self.publisher = Publisher(fleet.client("cloudwatch"), "LlmFleet", settings.pattern)
        self.membership = Membership(
            settings,
            task_id,
            fleet.registry,
            fleet.sqs,
            self.balancer,
            self.room,
            self.limits,
            self.waker,
            self.publisher,
            log,
        )


@pytest.fixture
def fleet(cloud: LocalCloud, request: pytest.FixtureRequest) -> Fleet:
    return Fleet(cloud, request.node.name)


def worker(number: int = 1, expires_in_s: float = 20) -> WorkerEntry:
    engine = Engine(f"10.0.0.{number}", 8000, 4)
    return WorkerEntry(POOL, f"i-{number}", "serving", (engine,), "g6.xlarge", 1, 0, 0, 0, time.time() + expires_in_s)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def while_it_runs(task: Task, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task.membership.start()
    try:
        await scenario()
    finally:
        await task.membership.stop()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READ_S", "REFRESH_S", "PUBLISH_S"):
        monkeypatch.setattr(module, name, 0.05)


@pytest.mark.usefixtures("hasty")
def test_workers_that_register_drain_and_leave_are_seen(fleet: Fleet) -> None:
    task = Task(fleet)

    async def scenario() -> None:
        await until(lambda: task.balancer.state(POOL) == "empty")
        fleet.registry.put(worker())
        await until(lambda: task.balancer.state(POOL) == "ready")
        fleet.registry.put(replace(worker(), state="draining"))
        await until(lambda: task.balancer.workers(POOL) == {"i-1": "draining"})
        fleet.registry.remove(POOL, "i-1")
        await until(lambda: task.balancer.workers(POOL) == {})

    asyncio.run(while_it_runs(task, scenario))


@pytest.mark.usefixtures("hasty")
def test_a_worker_that_stops_refreshing_is_gone_when_its_entry_expires(fleet: Fleet) -> None:
    task = Task(fleet)
    fleet.registry.put(worker(expires_in_s=1))

    async def scenario() -> None:
        await until(lambda: task.balancer.state(POOL) == "ready")
        await until(lambda: task.balancer.state(POOL) == "empty")

    asyncio.run(while_it_runs(task, scenario))


@pytest.mark.usefixtures("hasty")
def test_tasks_see_each_other_come_and_go_and_divide_the_limits(fleet: Fleet) -> None:
    one, two = Task(fleet, "task-1"), Task(fleet, "task-2")

    async def scenario() -> None:
        await until(lambda: one.limits.tasks == two.limits.tasks == 2)
        await two.membership.stop()
        await until(lambda: one.limits.tasks == 1)

    async def run() -> None:
        two.membership.start()
        await while_it_runs(one, scenario)

    asyncio.run(run())
    assert fleet.registry.gateways(time.time()) == ()


def test_backlog_and_work_under_way_are_the_sums_of_queue_and_all_tasks(fleet: Fleet) -> None:
    task = Task(fleet)
    for number in range(5):
        fleet.sqs.send_message(QueueUrl=fleet.queue_url, MessageBody=str(number))
    fleet.sqs.receive_message(QueueUrl=fleet.queue_url, MaxNumberOfMessages=2, VisibilityTimeout=300)
    fleet.registry.put(GatewayEntry("task-2", time.time() + 20, {POOL: 10}, {POOL: 20}))
    fleet.registry.put(GatewayEntry("gone", time.time() - 1, {POOL: 1000}, {POOL: 1000}))
    fleet.registry.put(worker())

    async def run() -> None:
        await task.membership.read_workers()
        lease = task.balancer.take(POOL, 1, None)
        assert lease is not None
        for _ in range(2):
            task.room.enter(POOL, 1, None, "default", 60, lambda _: None, lambda: None)
        await task.membership.meet_gateways()
        await task.membership.publish()

    asyncio.run(run())
    assert fleet.statistics("Backlog")["Maximum"] == 3 + 10 + 2
    assert fleet.statistics("InFlight")["Maximum"] == 2 + 20 + 1
    own = next(entry for entry in fleet.registry.gateways(time.time()) if entry.task_id == "task-1")
    assert (own.waiting, own.running) == ({POOL: 2}, {POOL: 1})


def test_any_number_of_tasks_publish_the_same_number_of_workers_whatever_their_state(fleet: Fleet) -> None:
    tasks = [Task(fleet, f"task-{number}") for number in range(3)]
    fleet.registry.put(worker(1))
    fleet.registry.put(replace(worker(2), state="failing"))
    fleet.registry.put(worker(3, expires_in_s=-1))

    async def run(task: Task) -> None:
        await task.membership.read_workers()
        await task.membership.publish()

    for task in tasks:
        asyncio.run(run(task))
    assert fleet.statistics("Workers") == {**fleet.statistics("Workers"), "Maximum": 2, "SampleCount": 3}


def test_a_pool_whose_workers_are_all_gone_publishes_none(fleet: Fleet) -> None:
    asyncio.run(Task(fleet).membership.publish())
    assert fleet.statistics("Workers")["Maximum"] == 0


def test_a_queue_that_does_not_answer_publishes_no_backlog_but_all_else(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(fleet)
    monkeypatch.setattr(task.membership, "_sqs", silent_client("sqs"))
    task.publisher.sample("TimeToFirstToken", POOL, 80, "Milliseconds")
    with pytest.raises(BotoCoreError):
        asyncio.run(task.membership.publish())
    assert fleet.statistics("Backlog") == {}
    assert fleet.statistics("TimeToFirstToken")["Maximum"] == 80


def test_the_last_known_workers_stay_a_minute_when_the_registry_does_not_answer(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(fleet)
    fleet.registry.put(worker(expires_in_s=5))
    asyncio.run(task.membership.read_workers())
    monkeypatch.setattr(task.membership, "_registry", Registry(silent_client("dynamodb"), fleet.name))
    began = time.monotonic()
    states: list[str] = []
    for later_s in (10, module.TRUST_S - 1, module.TRUST_S + 1):
        monkeypatch.setattr(module.time, "monotonic", lambda later_s=later_s: began + later_s)
        with pytest.raises(BotoCoreError):
            asyncio.run(task.membership.read_workers())
        states.append(task.balancer.state(POOL))
    assert states == ["ready", "ready", "empty"]


@pytest.mark.usefixtures("hasty")
def test_nothing_of_aws_that_fails_ends_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(fleet)
    real = fleet.registry
    monkeypatch.setattr(task.membership, "_registry", Registry(silent_client("dynamodb"), fleet.name))
    fleet.registry.put(worker())

    async def scenario() -> None:
        await until(lambda: task.log.getvalue().count("membership_failed") >= 3)
        monkeypatch.setattr(task.membership, "_registry", real)
        await until(lambda: task.balancer.state(POOL) == "ready")

    asyncio.run(while_it_runs(task, scenario))


def test_a_pool_that_served_and_fell_to_zero_is_woken_anew(fleet: Fleet) -> None:
    task, autoscaling = Task(fleet), fleet.client("autoscaling")
    image = {"ImageId": "ami-00000001", "InstanceType": "g6.xlarge"}
    fleet.client("ec2").create_launch_template(LaunchTemplateName="a-template", LaunchTemplateData=image)
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="a-group",
        MinSize=0,
        MaxSize=8,
        DesiredCapacity=0,
        AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": "a-template", "Version": "$Latest"},
    )

    def units_after_a_wake() -> int:
        task.waker.wake(POOL)
        task.waker.stop()
        groups = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["a-group"])["AutoScalingGroups"]
        return groups[0]["DesiredCapacity"]

    assert units_after_a_wake() == 1
    autoscaling.set_desired_capacity(AutoScalingGroupName="a-group", DesiredCapacity=0)
    assert units_after_a_wake() == 0
    fleet.registry.put(worker())
    asyncio.run(task.membership.read_workers())
    assert units_after_a_wake() == 1


def test_a_missing_table_is_an_error_of_aws(fleet: Fleet) -> None:
    task = Task(fleet)
    fleet.dynamodb.delete_table(TableName=fleet.name)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        asyncio.run(task.membership.read_workers())
