"""Metrics on their way to CloudWatch: the local cloud takes them, botocore's stubs refuse them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.cloudwatch import MAX_DATA, MAX_VALUES, Publisher
from localcloud.cloud import LocalCloud


@pytest.fixture(scope="module")
def client(shared_cloud: LocalCloud) -> Any:
    return shared_cloud.client("cloudwatch")


class Recorder:
    """A client of the real interface that notes each call, and refuses those it is told to refuse."""

    def __init__(self, *refusals: str | None) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        self._refusals = list(refusals)

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803
        assert Namespace == "LlmFleet"
        code = self._refusals.pop(0) if self._refusals else None
        if code:
            raise ClientError({"Error": {"Code": code, "Message": "refused"}}, "PutMetricData")
        self.calls.append(list(MetricData))

    def data(self, name: str) -> list[dict[str, Any]]:
        return [datum for call in self.calls for datum in call if datum["MetricName"] == name]


def publisher(client: Any) -> Publisher:
    return Publisher(client, "LlmFleet", "startup-mvp")


def statistics(client: Any, name: str, pool: str, *wanted: str) -> dict[str, float]:
    now = datetime.now(UTC)
    points = client.get_metric_statistics(
        Namespace="LlmFleet",
        MetricName=name,
        Dimensions=[{"Name": "Pattern", "Value": "startup-mvp"}, {"Name": "Pool", "Value": pool}],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=10),
        Period=3600,
        Statistics=list(wanted),
    )["Datapoints"]
    return {statistic: points[0][statistic] for statistic in wanted}


def test_cloudwatch_takes_levels_and_samples_in_one_flush(client: Any) -> None:
    metrics = publisher(client)
    metrics.level("Backlog", "cost_efficient", 3)
    metrics.level("Backlog", "cost_efficient", 7)
    metrics.sample("TimeToFirstToken", "cost_efficient", 100, "Milliseconds")
    metrics.flush()
    assert statistics(client, "Backlog", "cost_efficient", "Maximum") == {"Maximum": 7.0}
    assert statistics(client, "TimeToFirstToken", "cost_efficient", "Average") == {"Average": 100.0}


def test_the_call_is_what_botocore_sends_and_cloudwatch_defines() -> None:
    client: Any = boto3.client(
        "cloudwatch", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    metrics = publisher(client)
    metrics.sample("TimeToFirstToken", "cost_efficient", 123.4, "Milliseconds")
    with Stubber(client) as stubber:
        stubber.add_response("put_metric_data", {})
        metrics.flush()
        stubber.assert_no_pending_responses()


def test_equal_samples_become_one_value_with_a_count() -> None:
    client = Recorder()
    metrics = publisher(client)
    for ttft_ms in (101, 103, 99.6, 250):
        metrics.sample("TimeToFirstToken", "cost_efficient", ttft_ms, "Milliseconds")
    metrics.flush()
    [datum] = client.data("TimeToFirstToken")
    assert dict(zip(datum["Values"], datum["Counts"], strict=True)) == {100.0: 3, 250.0: 1}


def test_the_last_level_before_a_flush_counts() -> None:
    client = Recorder()
    metrics = publisher(client)
    metrics.level("Backlog", "cost_efficient", 5)
    metrics.level("Backlog", "cost_efficient", 0)
    metrics.flush()
    metrics.flush()
    assert [datum["Value"] for datum in client.data("Backlog")] == [0]


def test_nothing_to_send_makes_no_call() -> None:
    client = Recorder()
    publisher(client).flush()
    assert client.calls == []


@given(st.lists(st.floats(min_value=0, max_value=1e12), max_size=600))
def test_every_sample_is_sent_once_and_no_datum_passes_the_limit_of_values(values: list[float]) -> None:
    client = Recorder()
    metrics = publisher(client)
    for value in values:
        metrics.sample("TimeToFirstToken", "cost_efficient", value, "Milliseconds")
    metrics.flush()
    data = client.data("TimeToFirstToken")
    assert sum(sum(datum["Counts"]) for datum in data) == len(values)
    assert all(0 < len(datum["Values"]) <= MAX_VALUES for datum in data)


def test_a_value_that_is_no_number_is_dropped() -> None:
    client = Recorder()
    metrics = publisher(client)
    metrics.sample("TimeToFirstToken", "cost_efficient", float("nan"), "Milliseconds")
    metrics.level("Backlog", "cost_efficient", float("inf"))
    metrics.flush()
    assert client.calls == []


@pytest.mark.parametrize("code", ["Throttling", "AccessDenied", "InternalServiceFault"])
def test_what_could_not_be_sent_is_sent_by_the_next_flush_with_its_own_time(code: str) -> None:
    client = Recorder(code)
    metrics = publisher(client)
    metrics.level("Backlog", "cost_efficient", 4)
    with pytest.raises(ClientError):
        metrics.flush()
    metrics.level("Backlog", "cost_efficient", 5)
    metrics.flush()
    earlier, later = client.data("Backlog")
    assert (earlier["Value"], later["Value"]) == (4, 5)
    assert earlier["Timestamp"] <= later["Timestamp"]


def test_data_that_cloudwatch_will_never_accept_are_not_sent_again() -> None:
    client = Recorder("InvalidParameterValue")
    metrics = publisher(client)
    metrics.level("Backlog", "cost_efficient", 4)
    with pytest.raises(ClientError):
        metrics.flush()
    metrics.flush()
    assert client.calls == []


def test_a_long_outage_keeps_the_newest_data_and_bounds_the_memory() -> None:
    client = Recorder(*["Throttling"] * 1100)
    metrics = publisher(client)
    for backlog in range(1100):
        metrics.level("Backlog", "cost_efficient", backlog)
        with pytest.raises(ClientError):
            metrics.flush()
    metrics.flush()
    assert [datum["Value"] for datum in client.data("Backlog")] == list(range(1100 - MAX_DATA, 1100))


def test_many_full_data_go_in_calls_below_the_limit_of_size() -> None:
    client = Recorder()
    metrics = publisher(client)
    for pool in range(300):
        for value in range(1, MAX_VALUES):
            metrics.sample("TimeToFirstToken", f"pool{pool}", float(f"{value}e{value % 9}"), "Milliseconds")
    metrics.flush()
    assert len(client.data("TimeToFirstToken")) == 300
    assert all(len(repr(call)) < 1_000_000 for call in client.calls)
    assert len(client.calls) < 10


def test_samples_from_several_threads_are_all_counted() -> None:
    client = Recorder()
    metrics = publisher(client)

    def work() -> None:
        for value in range(500):
            metrics.sample("TimeToFirstToken", "cost_efficient", value, "Milliseconds")
            if value % 100 == 0:
                metrics.flush()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.flush()
    assert sum(sum(datum["Counts"]) for datum in client.data("TimeToFirstToken")) == 2000


def test_counts_of_the_fleet_are_added_up_by_reason_until_a_flush(client: Any) -> None:
    recorder = Recorder()
    metrics = publisher(recorder)
    for amount, reason in ((1, ""), (100, ""), (3, ""), (1, "pool_empty"), (2, "pool_empty")):
        metrics.count("Refused", amount, reason)
    metrics.flush()
    metrics.flush()
    fleet = {"Name": "Pattern", "Value": "startup-mvp"}
    assert [(datum["Dimensions"], datum["Value"], datum["Unit"]) for datum in recorder.data("Refused")] == [
        ([fleet], 104, "Count"),
        ([fleet, {"Name": "Reason", "Value": "pool_empty"}], 3, "Count"),
    ]
    taken = publisher(client)
    taken.count("Refused", 2)
    taken.flush()
