"""The fault proxy does what its words say; else a chaos run would prove nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from localcloud.cloud import LocalCloud
from tests.proof.faults import FaultProxy, rule
from tests.proof.fleet import Fleet


@pytest.fixture(scope="module")
def proxy(cloud: LocalCloud, folder: Path) -> Iterator[FaultProxy]:
    running = FaultProxy(cloud.endpoint_url, 1, cloud.environment(), folder)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def fleet(cloud: LocalCloud, folder: Path) -> Fleet:
    return Fleet(cloud, folder, pools=["batch_processing"])


def clients(cloud: LocalCloud, proxy: FaultProxy) -> Any:
    once = Config(retries={"total_max_attempts": 1})
    make: Any = cloud.session().client
    return lambda service: make(service, endpoint_url=proxy.endpoint_url, config=once)


def problem_of(call: Any) -> Exception | None:
    try:
        call()
    except (ClientError, BotoCoreError) as error:
        return error
    return None


@pytest.mark.parametrize("service", ["sqs", "s3", "dynamodb"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("throttled", ClientError), ("slow", type(None)), ("cut", ConnectionClosedError), ("answer-lost", Exception)],
)
def test_every_fault_reaches_every_service(
    cloud: LocalCloud, proxy: FaultProxy, fleet: Fleet, service: str, fault: str, expected: type
) -> None:
    client = clients(cloud, proxy)(service)
    calls = {
        "sqs": lambda: client.send_message(QueueUrl=fleet.queues["batch_processing"].url, MessageBody="x"),
        "s3": lambda: client.put_object(Bucket=fleet.files_bucket, Key=fault, Body=b"x"),
        "dynamodb": lambda: client.put_item(TableName=fleet.keys_table, Item={"key_id": {"S": fault}}),
    }
    proxy.clear()
    assert problem_of(calls[service]) is None
    before = proxy.fired()
    proxy.add({**rule(service, fault), "probability": 1})
    assert isinstance(problem_of(calls[service]), expected)
    assert proxy.fired() - before == {f"{service} {fault}": 1}


def test_a_lost_answer_was_a_call_that_happened(cloud: LocalCloud, proxy: FaultProxy, fleet: Fleet) -> None:
    proxy.clear()
    proxy.add({**rule("s3", "answer-lost"), "probability": 1})
    client = clients(cloud, proxy)("s3")
    assert problem_of(lambda: client.put_object(Bucket=fleet.files_bucket, Key="lost", Body=b"x")) is not None
    assert fleet.s3.get_object(Bucket=fleet.files_bucket, Key="lost")["Body"].read() == b"x"
