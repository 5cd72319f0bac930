"""The one list of layers is the chain that runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from llm_fleet.gateway import app
from llm_fleet.gateway.layers import Layer, layers
from tests.gateway.engine_stand_in import EngineStandIn
from tests.gateway.running_gateway import CHAT, RunningGateway


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    with EngineStandIn() as engine:
        yield engine


def test_every_layer_says_why_it_stands_where_it_does() -> None:
    with RunningGateway() as gateway:
        found = gateway.gateway.layers
    assert len({layer.name for layer in found}) == len(found)
    assert all(layer.why_here for layer in found)


def test_nobody_without_a_key_makes_the_gateway_hold_or_read_a_body() -> None:
    with RunningGateway() as gateway:
        names = [layer.name for layer in gateway.gateway.layers]
    assert names.index("key") < names.index("body limit") < names.index("body") < names.index("read")
    assert names.index("rate limit") < names.index("exchange")


def test_a_layer_that_is_left_out_does_not_run(engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_rate_limit(*given: Any) -> list[Layer]:
        return [layer for layer in layers(*given) if layer.name != "rate limit"]

    monkeypatch.setattr(app, "layers", without_rate_limit)
    with RunningGateway([engine]) as gateway, gateway.client(gateway.table.add("x", requests_per_minute=1)) as client:
        for _ in range(3):
            client.chat.completions.create(**CHAT)


def test_a_fault_of_ours_is_a_500_and_a_log_line_with_its_traceback(
    engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_call: Any) -> None:
        raise RuntimeError("a fault of ours")

    def with_fault(*given: Any) -> list[Layer]:
        return [*layers(*given)[:-1], Layer("fault", fail, "for this test", ("completion",))]

    monkeypatch.setattr(app, "layers", with_fault)
    with RunningGateway([engine]) as gateway, gateway.client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**CHAT)
        [fault] = gateway.logged("fault")
    assert (caught.value.status_code, caught.value.code) == (500, "internal_error")
    assert fault["request_id"] == caught.value.request_id
    assert "RuntimeError: a fault of ours" in fault["traceback"]
    assert "in fail" in fault["traceback"]


def test_an_unknown_place_is_told_before_the_key_is_asked_for() -> None:
    with RunningGateway() as gateway, gateway.client("nonsense") as client, pytest.raises(openai.NotFoundError):
        client.get("/nothing", cast_to=object)
