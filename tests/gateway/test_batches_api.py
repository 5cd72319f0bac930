"""The Batches endpoints, against a local cloud."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import Batch

from tests.batches.batch_world import BOB, CHAT, BatchWorld, Clock, answer, request_lines
from tests.batches.fixtures import clock, world

__all__ = ["clock", "world"]


def refused(answer: tuple[int, Any], status: int) -> dict[str, Any]:
    assert answer[0] == status, answer
    return answer[1]["error"]


def wanted(**changes: Any) -> bytes:
    body = {"input_file_id": "file-000000000000000000000000", "endpoint": CHAT, "completion_window": "24h", **changes}
    return orjson.dumps({name: value for name, value in body.items() if value != "absent"})


def test_a_new_batch_is_validating_and_has_openais_shape(world: BatchWorld, clock: Clock):
    file_id = world.upload(request_lines(1))["id"]
    status, batch = world.ask("POST", "/v1/batches", wanted(input_file_id=file_id, metadata={"team": "blue"}))
    assert status == 200
    Batch.model_validate(batch, strict=True)
    assert batch["status"] == "validating"
    assert batch["metadata"] == {"team": "blue"}
    assert batch["expires_at"] == clock.now + 86_400
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert world.batch(batch["id"]) == batch


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"endpoint": "absent"}, "endpoint"),
        ({"endpoint": 7}, "endpoint"),
        ({"completion_window": "7d"}, "completion_window"),
        ({"input_file_id": "absent"}, "input_file_id"),
        ({"input_file_id": {"a": 1}}, "input_file_id"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {str(each): "" for each in range(17)}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
        ({"output_expires_after": "x"}, "output_expires_after.anchor"),
        ({"window": 1}, "window"),
    ],
)
def test_a_bad_parameter_is_refused_by_its_name(world: BatchWorld, changes: dict[str, Any], param: str):
    assert refused(world.ask("POST", "/v1/batches", wanted(**changes)), 400)["param"] == param


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(),
        lambda part: (
            st.lists(part, max_size=3)
            | st.dictionaries(
                st.sampled_from(["input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"]),
                part,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_body_is_answered_with_a_fault_of_ours(world: BatchWorld, body: bytes):
    status, _ = world.ask("POST", "/v1/batches", body)
    assert status in (400, 404)


def test_a_batch_of_a_missing_or_another_keys_file_is_404(world: BatchWorld):
    theirs = world.upload(b"x", key=BOB)["id"]
    missing = "file-000000000000000000000000"
    first = refused(world.ask("POST", "/v1/batches", wanted(input_file_id=theirs)), 404)
    second = refused(world.ask("POST", "/v1/batches", wanted(input_file_id=missing)), 404)
    assert {**first, "message": first["message"].replace(theirs, missing)} == second


def test_an_output_file_is_no_input(world: BatchWorld):
    batch_id = world.create(request_lines(1))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    world.results.record(batch_id, 0, "id-0", answer())
    output = world.carry(clerk, batch_id, "completed")["output_file_id"]
    assert refused(world.ask("POST", "/v1/batches", wanted(input_file_id=output)), 400)["param"] == "input_file_id"


def test_another_keys_batch_is_404_in_the_words_of_a_missing_one(world: BatchWorld):
    mine = world.create(request_lines(1))
    missing = "batch_" + "0" * 32
    for method, path in (("GET", ""), ("POST", "/cancel")):
        theirs = refused(world.ask(method, f"/v1/batches/{mine}{path}", key=BOB), 404)
        nobodys = refused(world.ask(method, f"/v1/batches/{missing}{path}", key=BOB), 404)
        assert {**theirs, "message": theirs["message"].replace(mine, missing)} == nobodys
    assert world.ask("GET", "/v1/batches", key=BOB)[1]["data"] == []
    assert world.batch(mine)["status"] == "validating"


@pytest.mark.parametrize("batch_id", ["open", "key%23aaaaaaaaaaaa", "x" * 3000, "file-000000000000000000000000"])
def test_no_id_reaches_another_part_of_the_table(world: BatchWorld, batch_id: str):
    world.create(request_lines(1))
    assert refused(world.ask("GET", f"/v1/batches/{batch_id}"), 404)["code"] == "not_found"


def test_batches_are_listed_newest_first_and_in_pages(world: BatchWorld, clock: Clock):
    made: list[str] = []
    for _ in range(5):
        clock.now += 1
        made.append(world.create(request_lines(1)))
    newest_first = made[::-1]

    def listed(**query: str) -> tuple[list[str], bool]:
        page = world.ask("GET", "/v1/batches", query=query)[1]
        return [batch["id"] for batch in page["data"]], page["has_more"]

    assert listed() == (newest_first, False)
    assert listed(limit="2") == (newest_first[:2], True)
    assert listed(limit="3", after=newest_first[1]) == (newest_first[2:], False)
    assert refused(world.ask("GET", "/v1/batches", query={"limit": "101"}), 400)["param"] == "limit"


def test_a_cancel_may_be_asked_for_twice(world: BatchWorld, clock: Clock):
    batch_id = world.create(request_lines(1))
    first = world.ask("POST", f"/v1/batches/{batch_id}/cancel")
    clock.now += 10
    assert first == world.ask("POST", f"/v1/batches/{batch_id}/cancel")
    assert first[1]["status"] == "cancelling"


def test_a_batch_that_has_ended_cannot_be_cancelled(world: BatchWorld):
    batch_id = world.create(b"no json")
    world.carry(world.clerk(), batch_id, "failed")
    error = refused(world.ask("POST", f"/v1/batches/{batch_id}/cancel"), 409)
    assert error["message"] == "Cannot cancel a batch with status 'failed'."
