"""What the gateway says of its requests."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import time
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest

from llm_fleet.cloudwatch import Publisher
from llm_fleet.gateway import meters as module
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.meters import FLUSH_REQUESTS, FinishedRequest, Meters
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.json_log import VARIABLE, JsonLog
from llm_fleet.registry import Engine, WorkerEntry

POOL = "cost_efficient"
REQUEST = FinishedRequest(
    request_id="req_1",
    key_id="0123456789ab",
    method="POST",
    path="/v1/chat/completions",
    model="small",
    pool=POOL,
    role="cost_efficient",
    reason="default",
    worker_id="i-1",
    status=200,
    streamed=True,
    prompt_tokens=100,
    completion_tokens=40,
    tokens_estimated=False,
    queue_wait_ms=3.0,
    ttft_ms=80.0,
    total_ms=900.0,
    cost_usd=0.0005,
    attempts=2,
    error_code=None,
    bytes_in=512,
    bytes_out=8192,
)
REFUSED = replace(
    REQUEST,
    pool=None,
    role=None,
    reason=None,
    worker_id=None,
    status=404,
    ttft_ms=None,
    cost_usd=None,
    prompt_tokens=0,
    completion_tokens=0,
    attempts=0,
    error_code="model_not_found",
)


class CloudWatch:
    """A client of the real interface that keeps what it is sent."""

    def __init__(self) -> None:
        self.data: list[dict[str, Any]] = []

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803
        self.data += MetricData


class Gateway:
    """Meters and what they read."""

    def __init__(self) -> None:
        self.output = io.BytesIO()
        self.readable = io.StringIO()
        self.cloudwatch = CloudWatch()
        self.balancer = Balancer()
        self.room = WaitingRoom(self.balancer)
        client: Any = self.cloudwatch
        self.publisher = Publisher(client, "LlmFleet", "startup-mvp")
        log = JsonLog("gateway", self.readable)
        self.meters = Meters([POOL, "batch_processing"], self.balancer, self.room, self.publisher, log, self.output)

    def lines(self) -> list[dict[str, Any]]:
        self.meters.flush()
        return [json.loads(line) for line in self.output.getvalue().splitlines()]

    def sent(self, name: str) -> list[dict[str, Any]]:
        return [datum for datum in self.cloudwatch.data if datum["MetricName"] == name]

    def series(self) -> dict[str, float]:
        text = self.meters.prometheus().decode()
        return {
            name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        }


def test_a_request_becomes_one_line_with_all_that_is_known_of_it() -> None:
    gateway = Gateway()
    before = time.time()
    gateway.meters.note(lambda: REQUEST)
    [line] = gateway.lines()
    assert before - 0.01 <= line.pop("time") <= time.time() + 0.01
    assert (line.pop("event"), line.pop("service")) == ("request", "gateway")
    assert line == {field.name: getattr(REQUEST, field.name) for field in fields(REQUEST)}


def test_odd_text_in_a_request_stays_one_line_of_json() -> None:
    gateway = Gateway()
    model = 'a"b\\\n\r\u2028{}\x00 é'
    gateway.meters.note(lambda: replace(REFUSED, model=model, path="/v1/\nnonsense"))
    [line] = gateway.lines()
    assert (line["model"], line["path"]) == (model, "/v1/\nnonsense")


def test_requests_tokens_attempts_and_cost_are_counted_by_pool() -> None:
    gateway = Gateway()
    gateway.meters.note(lambda: REQUEST)
    gateway.meters.note(lambda: REQUEST)
    gateway.meters.note(lambda: REFUSED)
    series = gateway.series()
    path = 'path="/v1/chat/completions"'
    assert series[f'llm_fleet_requests_total{{pool="{POOL}",{path},status="200"}}'] == 2
    assert series[f'llm_fleet_requests_total{{pool="",{path},status="404"}}'] == 1
    assert series[f'llm_fleet_prompt_tokens_total{{pool="{POOL}"}}'] == 200
    assert series[f'llm_fleet_completion_tokens_total{{pool="{POOL}"}}'] == 80
    assert series[f'llm_fleet_attempts_total{{pool="{POOL}"}}'] == 4
    assert series[f'llm_fleet_cost_usd_total{{pool="{POOL}"}}'] == pytest.approx(0.001)


def test_times_stand_in_histograms_whose_buckets_add_up() -> None:
    gateway = Gateway()
    for ttft_ms in (5.0, 5.1, 80.0, 1e9):
        gateway.meters.note(partial(replace, REQUEST, ttft_ms=ttft_ms))
    gateway.meters.note(lambda: REFUSED)
    series = gateway.series()
    buckets = [
        series[f'llm_fleet_ttft_ms_bucket{{pool="{POOL}",le="{bound}"}}'] for bound in (5, 10, 100, 300000, "+Inf")
    ]
    assert buckets == [1, 2, 3, 3, 4]
    assert series[f'llm_fleet_ttft_ms_count{{pool="{POOL}"}}'] == 4
    assert series['llm_fleet_ttft_ms_count{pool=""}'] == 0
    assert series['llm_fleet_total_ms_count{pool=""}'] == 1


def test_nonsense_that_clients_send_makes_no_series() -> None:
    gateway = Gateway()
    for number in range(100):
        refused = replace(REFUSED, path=f"/{number}", model=f"model {number}", pool=f"pool {number}")
        gateway.meters.note(partial(replace, refused))
    series = gateway.series()
    assert [count for name, count in series.items() if name.startswith("llm_fleet_requests_total")] == [100]


def test_gauges_show_what_is_true_at_the_scrape() -> None:
    gateway = Gateway()
    engine = Engine("10.0.0.1", 8000, 4)
    workers = [
        WorkerEntry(POOL, f"i-{state}", state, (engine,), "g6.xlarge", 1, 0, 0, 0, 0.0)
        for state in ("serving", "draining")
    ]
    gateway.balancer.learn(POOL, workers, 1)
    lease = gateway.balancer.take(POOL, 10, None)
    assert lease is not None

    async def one_waits() -> dict[str, float]:
        gateway.room.enter(POOL, 1, None, "default", 60, lambda _: None, lambda: None)
        return gateway.series()

    series = asyncio.run(one_waits())
    assert series[f'llm_fleet_waiting{{pool="{POOL}"}}'] == 1
    assert series[f'llm_fleet_running{{pool="{POOL}"}}'] == 1
    assert series[f'llm_fleet_workers{{pool="{POOL}",state="serving"}}'] == 1
    assert series[f'llm_fleet_workers{{pool="{POOL}",state="draining"}}'] == 1
    assert series['llm_fleet_workers{pool="batch_processing",state="serving"}'] == 0
    assert series[f'llm_fleet_breakers{{pool="{POOL}",state="closed"}}'] == 2


def test_every_series_has_its_type_once() -> None:
    gateway = Gateway()
    gateway.meters.note(lambda: REQUEST)
    text = gateway.meters.prometheus().decode()
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    for name in gateway.series():
        bare = name.split("{")[0]
        assert any(
            bare == each or bare.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") == each
            for each in types
        )


def test_the_time_to_the_first_token_goes_to_cloudwatch() -> None:
    gateway = Gateway()
    gateway.meters.note(lambda: REQUEST)
    gateway.meters.note(lambda: REFUSED)
    gateway.meters.flush()
    gateway.publisher.flush()
    [datum] = gateway.sent("TimeToFirstToken")
    assert (datum["MetricName"], datum["Values"], datum["Counts"]) == ("TimeToFirstToken", [80.0], [1])
    assert datum["Dimensions"][1] == {"Name": "Pool", "Value": POOL}


@pytest.mark.parametrize("other", [replace(REQUEST, streamed=False, ttft_ms=9000.0), replace(REQUEST, status=502)])
def test_only_streams_that_went_well_tell_a_time_to_the_first_token(other: FinishedRequest) -> None:
    gateway = Gateway()
    gateway.meters.note(lambda: other)
    gateway.meters.flush()
    gateway.publisher.flush()
    assert gateway.sent("TimeToFirstToken") == []
    assert gateway.series()[f'llm_fleet_ttft_ms_count{{pool="{POOL}"}}'] == 0


def test_refusals_go_to_cloudwatch_by_reason_beside_the_requests_they_are_part_of() -> None:
    gateway = Gateway()
    over_limit = replace(REFUSED, status=429, error_code="rate_limit_exceeded")
    saturated = replace(REFUSED, status=429, error_code="pool_saturated")
    by_the_engine = replace(REQUEST, status=503, error_code=None)
    for request in (REQUEST, REQUEST, over_limit, saturated, saturated, by_the_engine):
        gateway.meters.note(partial(replace, request))
    gateway.meters.flush()
    gateway.publisher.flush()
    assert [datum["Value"] for datum in gateway.sent("Requests")] == [6]
    refused = {tuple(each["Value"] for each in datum["Dimensions"][1:]): datum for datum in gateway.sent("Refused")}
    assert {reason: datum["Value"] for reason, datum in refused.items()} == {
        (): 4,
        ("rate_limit_exceeded",): 1,
        ("pool_saturated",): 2,
        ("engine",): 1,
    }


@pytest.mark.parametrize(
    ("request_", "counts"),
    [
        pytest.param(replace(REFUSED, status=401, key_id=None), 0, id="stranger"),
        pytest.param(replace(REFUSED, status=503, key_id=None, error_code="keys_unavailable"), 1, id="unknown key"),
        pytest.param(replace(REFUSED, status=429, path="/v1/files"), 0, id="no model"),
        pytest.param(replace(REFUSED, status=400), 1, id="bad request"),
    ],
)
def test_only_requests_to_models_count_beside_refusals(request_: FinishedRequest, counts: int) -> None:
    gateway = Gateway()
    gateway.meters.note(lambda: request_)
    gateway.meters.flush()
    gateway.publisher.flush()
    assert sum(datum["Value"] for datum in gateway.sent("Requests")) == counts


def test_lines_are_written_soon_without_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.01)
    gateway = Gateway()

    async def run() -> None:
        for _ in range(3):
            gateway.meters.note(lambda: REQUEST)
        assert gateway.output.getvalue() == b""
        async with asyncio.timeout(10):
            while gateway.output.getvalue().count(b"\n") < 3:
                await asyncio.sleep(0.005)

    asyncio.run(run())


def test_many_requests_are_written_at_once_and_never_pile_up() -> None:
    gateway = Gateway()
    for _ in range(FLUSH_REQUESTS - 1):
        gateway.meters.note(lambda: REQUEST)
    assert gateway.output.getvalue() == b""
    gateway.meters.note(lambda: REQUEST)
    assert gateway.output.getvalue().count(b"\n") == FLUSH_REQUESTS


def test_a_reader_that_left_costs_lines_and_no_request() -> None:
    gateway = Gateway()
    gateway.output.close()
    gateway.meters.note(lambda: REQUEST)
    gateway.meters.flush()
    assert gateway.series()["llm_fleet_log_lines_dropped_total"] == 1


def test_a_developer_reads_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "text")
    gateway = Gateway()
    gateway.meters.note(lambda: REQUEST)
    assert gateway.lines() == []
    assert "request request_id=req_1" in gateway.readable.getvalue()


def test_lines_that_wait_are_written_when_the_process_ends() -> None:
    script = (
        "from tests.gateway.test_meters import *\n"
        "gateway = Gateway()\n"
        "Meters([POOL], gateway.balancer, gateway.room, gateway.publisher, JsonLog('gateway')).note(lambda: REQUEST)\n"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(output)["request_id"] == "req_1"
