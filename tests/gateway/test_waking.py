"""Waking a pool: LaunchInstances by botocore's stubs, as no emulator has it; SetDesiredCapacity on the local cloud."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from llm_fleet.gateway import waking
from llm_fleet.gateway.settings import PoolSettings
from llm_fleet.gateway.waking import LEAST_RETRY_S, Waker
from llm_fleet.json_log import JsonLog
from localcloud.cloud import LocalCloud

POOL = "cost_efficient"
BOOT_S = 900


def settings(group: str = "a-group", units: int = 2) -> PoolSettings:
    return PoolSettings(
        queue_url="http://127.0.0.1/queue",
        dead_letter_queue_url="http://127.0.0.1/dead",
        group_name=group,
        fallback=(),
        served_model_name="small",
        max_model_len_tokens=8192,
        expected_output_tokens=256,
        engine_keep_alive_seconds=5,
        units_per_instance=units,
        max_units=8,
        launch_hook_seconds=BOOT_S,
        usd_per_million_output_tokens=None,
    )


@pytest.fixture
def client() -> Any:
    return boto3.client("autoscaling", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


def group(desired: int = 0, **placed: str) -> dict[str, Any]:
    return {
        "AutoScalingGroups": [
            {
                "AutoScalingGroupName": "a-group",
                "MinSize": 0,
                "MaxSize": 8,
                "DesiredCapacity": desired,
                "DefaultCooldown": 0,
                "AvailabilityZones": ["us-east-1a", "us-east-1b"],
                **(placed or {"VPCZoneIdentifier": "subnet-a,subnet-b"}),
                "HealthCheckType": "EC2",
                "CreatedTime": "2026-01-01T00:00:00Z",
            }
        ]
    }


def launch(**place: Any) -> dict[str, Any]:
    return {
        "AutoScalingGroupName": "a-group",
        "RequestedCapacity": 2,
        "RetryStrategy": "none",
        "ClientToken": ANY,
        **place,
    }


LAUNCHED = {
    "AutoScalingGroupName": "a-group",
    "Instances": [{"InstanceType": "g6.xlarge", "MarketType": "spot", "InstanceIds": ["i-1"]}],
}
REFUSED = {
    "AutoScalingGroupName": "a-group",
    "Instances": [],
    "Errors": [
        {
            "InstanceType": "g6.xlarge",
            "MarketType": "spot",
            "ErrorCode": "InsufficientInstanceCapacity",
            "ErrorMessage": "no capacity",
        }
    ],
}


def wakes(log: io.StringIO) -> list[dict[str, Any]]:
    return [event for line in log.getvalue().splitlines() if (event := json.loads(line))["event"] == "wake"]


def woken(client: Any, stubber: Stubber) -> dict[str, Any]:
    """The one event of a wake that made exactly the stubbed calls."""
    log = io.StringIO()
    with stubber:
        waker = Waker(client, {POOL: settings()}, JsonLog("gateway", log))
        waker.wake(POOL)
        waker.stop()
        stubber.assert_no_pending_responses()
    [event] = wakes(log)
    return event


def test_the_first_subnet_with_capacity_gives_the_ids(client: Any) -> None:
    stubber = Stubber(client)
    stubber.add_response("describe_auto_scaling_groups", group(), {"AutoScalingGroupNames": ["a-group"]})
    stubber.add_response("launch_instances", REFUSED, launch(SubnetIds=["subnet-a"]))
    stubber.add_response("launch_instances", LAUNCHED, launch(SubnetIds=["subnet-b"]))
    event = woken(client, stubber)
    assert (event["outcome"], event["instance_ids"]) == ("launched", ["i-1"])
    assert event["refusals"] == ["subnet-a: g6.xlarge spot InsufficientInstanceCapacity: no capacity"]


def test_a_group_of_zones_is_asked_zone_by_zone(client: Any) -> None:
    stubber = Stubber(client)
    stubber.add_response("describe_auto_scaling_groups", group(PlacementGroup="none-of-a-subnet"))
    stubber.add_response("launch_instances", LAUNCHED, launch(AvailabilityZones=["us-east-1a"]))
    assert woken(client, stubber)["outcome"] == "launched"


def test_refused_everywhere_the_groups_size_is_set_so_that_it_tries_by_itself(client: Any) -> None:
    stubber = Stubber(client)
    stubber.add_response("describe_auto_scaling_groups", group())
    stubber.add_response("launch_instances", REFUSED, launch(SubnetIds=["subnet-a"]))
    stubber.add_response("launch_instances", REFUSED, launch(SubnetIds=["subnet-b"]))
    stubber.add_response("describe_auto_scaling_groups", group())
    wanted = {"AutoScalingGroupName": "a-group", "DesiredCapacity": 2, "HonorCooldown": False}
    stubber.add_response("set_desired_capacity", {}, wanted)
    event = woken(client, stubber)
    assert (event["outcome"], event["desired_units"], len(event["refusals"])) == ("desired capacity set", 2, 2)


def test_a_size_that_someone_set_meanwhile_is_not_lowered(client: Any) -> None:
    stubber = Stubber(client)
    stubber.add_response("describe_auto_scaling_groups", group())
    stubber.add_client_error("launch_instances", "ResourceContention", "an update is pending")
    stubber.add_response("describe_auto_scaling_groups", group(desired=6))
    event = woken(client, stubber)
    assert (event["outcome"], event["desired_units"]) == ("ordered before", 6)
    assert "ResourceContention" in event["refusals"][0]


def test_a_group_that_already_grows_is_left_alone(client: Any) -> None:
    stubber = Stubber(client)
    stubber.add_response("describe_auto_scaling_groups", group(desired=2))
    assert woken(client, stubber)["outcome"] == "ordered before"


def test_tasks_that_wake_within_the_same_minute_send_the_same_token(client: Any) -> None:
    tokens: list[str] = []
    client.meta.events.register(
        "provide-client-params.autoscaling.LaunchInstances", lambda params, **_: tokens.append(params["ClientToken"])
    )
    began = time.time() // waking.SAME_WAKE_S
    for _ in range(2):
        stubber = Stubber(client)
        stubber.add_response("describe_auto_scaling_groups", group())
        stubber.add_response("launch_instances", LAUNCHED)
        woken(client, stubber)
    assert len(set(tokens)) == 1 or time.time() // waking.SAME_WAKE_S != began


@pytest.fixture(scope="module")
def cloud_client(shared_cloud: LocalCloud) -> Any:
    image: Any = {"ImageId": "ami-00000001", "InstanceType": "g6.xlarge"}
    shared_cloud.client("ec2").create_launch_template(LaunchTemplateName="to-wake", LaunchTemplateData=image)
    return shared_cloud.client("autoscaling")


@pytest.fixture
def real_group(cloud_client: Any, request: pytest.FixtureRequest) -> str:
    name = request.node.name
    cloud_client.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=8,
        DesiredCapacity=0,
        AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": "to-wake", "Version": "$Latest"},
    )
    return name


def desired(client: Any, group: str) -> int:
    return client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]["DesiredCapacity"]


def test_where_launch_instances_does_not_exist_the_size_is_set(cloud_client: Any, real_group: str) -> None:
    log = io.StringIO()
    waker = Waker(cloud_client, {POOL: settings(real_group, units=3)}, JsonLog("gateway", log))
    assert waker.wake(POOL) == pytest.approx(BOOT_S, abs=1)
    waker.stop()
    assert desired(cloud_client, real_group) == 3
    [event] = wakes(log)
    assert event["outcome"] == "desired capacity set"
    assert event["refusals"]


def test_many_requests_wake_once_and_hear_how_long_it_still_takes(
    cloud_client: Any, real_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    waker = Waker(cloud_client, {POOL: settings(real_group)}, JsonLog("gateway", log))
    for _ in range(20):
        waker.wake(POOL)
    waker.stop()
    began = time.monotonic()
    monkeypatch.setattr(waking.time, "monotonic", lambda: began + 600)
    assert waker.wake(POOL) == pytest.approx(BOOT_S - 600, abs=5)
    monkeypatch.setattr(waking.time, "monotonic", lambda: began + BOOT_S - 6)
    assert waker.wake(POOL) == LEAST_RETRY_S
    waker.stop()
    assert len(wakes(log)) == 1


def test_a_pool_that_did_not_come_up_in_time_is_woken_again(
    cloud_client: Any, real_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    waker = Waker(cloud_client, {POOL: settings(real_group)}, JsonLog("gateway", log))
    waker.wake(POOL)
    waker.stop()
    later = time.monotonic() + BOOT_S + 1
    monkeypatch.setattr(waking.time, "monotonic", lambda: later)
    assert waker.wake(POOL) == pytest.approx(BOOT_S, abs=1)
    waker.stop()
    assert [event["outcome"] for event in wakes(log)] == ["desired capacity set", "ordered before"]


def test_a_pool_that_served_and_fell_to_zero_again_is_woken_at_once(cloud_client: Any, real_group: str) -> None:
    log = io.StringIO()
    waker = Waker(cloud_client, {POOL: settings(real_group)}, JsonLog("gateway", log))
    waker.wake(POOL)
    waker.stop()
    waker.awake(POOL)
    cloud_client.set_desired_capacity(AutoScalingGroupName=real_group, DesiredCapacity=0)
    waker.wake(POOL)
    waker.stop()
    assert desired(cloud_client, real_group) == 2
    assert len(wakes(log)) == 2


def test_a_wake_that_failed_is_tried_again_soon_and_promises_a_whole_boot(
    cloud_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    waker = Waker(cloud_client, {POOL: settings("no-such-group")}, JsonLog("gateway", log))
    waker.wake(POOL)
    waker.stop()
    assert waker.wake(POOL) == BOOT_S
    assert len(wakes(log)) == 1
    later = time.monotonic() + waking.TRY_AGAIN_S + 1
    monkeypatch.setattr(waking.time, "monotonic", lambda: later)
    waker.wake(POOL)
    waker.stop()
    assert [event["outcome"] for event in wakes(log)] == ["failed", "failed"]
    assert "no Auto Scaling group no-such-group" in log.getvalue()


def test_waking_twice_at_the_same_time_orders_one_instance(cloud_client: Any, real_group: str) -> None:
    log = io.StringIO()
    wakers = [Waker(cloud_client, {POOL: settings(real_group)}, JsonLog("gateway", log)) for _ in range(2)]
    for waker in wakers:
        waker.wake(POOL)
    for waker in wakers:
        waker.stop()
    assert desired(cloud_client, real_group) == 2
