"""A batch from upload to its files, with a clerk in this process and results written as workers write them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import Batch, FileObject

from llm_fleet.batches.batch_table import LeaseLostError
from llm_fleet.batches.records import Counts
from llm_fleet.batches.results import Answer, Failure
from tests.batches.batch_world import FAILED, BatchWorld, Clock, answer, request_line, request_lines


def custom_ids(lines: list[dict[str, Any]]) -> list[str]:
    return [line["custom_id"] for line in lines]


def test_a_batch_goes_from_upload_to_completed_output(world: BatchWorld):
    batch_id = world.create(request_lines(25))
    clerk = world.clerk()
    batch = world.carry(clerk, batch_id, "in_progress")
    assert batch["request_counts"] == {"total": 25, "completed": 0, "failed": 0}
    messages = world.messages()
    assert sorted(message["line"] for message in messages) == list(range(25))
    for message in reversed(messages):
        world.results.record(batch_id, message["line"], message["custom_id"], answer(message["custom_id"]))
    batch = world.carry(clerk, batch_id, "completed")
    Batch.model_validate(batch, strict=True)
    assert batch["request_counts"] == {"total": 25, "completed": 25, "failed": 0}
    assert batch["error_file_id"] is None
    assert (batch["usage"]["input_tokens"], batch["usage"]["output_tokens"]) == (75, 50)
    output = world.lines_of(batch["output_file_id"])
    assert custom_ids(output) == [f"id-{number}" for number in range(25)]
    assert output[3]["response"]["body"]["choices"][0]["message"]["content"] == "id-3"
    file = world.ask("GET", f"/v1/files/{batch['output_file_id']}")[1]
    FileObject.model_validate(file, strict=True)
    assert (file["purpose"], file["filename"]) == ("batch_output", f"{batch_id}_output.jsonl")


def test_a_message_says_where_its_line_lies(world: BatchWorld):
    content = b"\xef\xbb\xbf" + request_line("a") + b"\r\n\n  " + request_line("é") + b"  \n" + request_line("c")
    batch_id = world.create(content)
    batch = world.carry(world.clerk(), batch_id, "in_progress")
    for message in world.messages():
        stored = world.s3.get_object(Bucket=world.files_bucket, Key=message["file_key"])["Body"].read()
        line = stored[message["offset"] : message["offset"] + message["length"]]
        assert orjson.loads(line)["custom_id"] == message["custom_id"] == ["a", "é", "c"][message["line"]]
        assert message["deadline"] == batch["expires_at"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_output_and_errors_hold_every_line_once_and_in_order(world: BatchWorld, data: st.DataObject):
    """Whatever workers do: any order of lines, any repetition, and another end the second time."""
    total = data.draw(st.integers(1, 12))
    batch_id = world.create(request_lines(total))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    outcomes = st.sampled_from([answer(), answer(status_code=400), answer(status_code=500), FAILED])
    records = data.draw(st.lists(st.tuples(st.integers(0, total - 1), outcomes), max_size=20))
    records += [(line, data.draw(outcomes)) for line in data.draw(st.permutations(range(total)))]
    first: dict[int, Answer | Failure] = {}
    for line, result in records:
        world.results.record(batch_id, line, f"id-{line}", result)
        first.setdefault(line, result)
        counts = world.batch(batch_id)["request_counts"]
        assert counts["completed"] + counts["failed"] == len(first)
    batch = world.carry(clerk, batch_id, "completed")
    good = [line for line in range(total) if isinstance(first[line], Answer) and first[line] == answer()]
    assert custom_ids(world.lines_of(batch["output_file_id"])) == [f"id-{line}" for line in good]
    bad = [line for line in range(total) if line not in good]
    assert custom_ids(world.lines_of(batch["error_file_id"])) == [f"id-{line}" for line in bad]
    assert batch["request_counts"] == {"total": total, "completed": len(good), "failed": len(bad)}


def test_a_result_after_the_end_changes_nothing(world: BatchWorld, clock: Clock):
    batch_id = world.create(request_lines(2))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    world.results.record(batch_id, 0, "id-0", answer())
    clock.now += 86_400
    ended = world.carry(clerk, batch_id, "expired")
    files = [world.lines_of(ended[name]) for name in ("output_file_id", "error_file_id")]
    world.results.record(batch_id, 1, "id-1", answer())
    clerk.poll_and_wait()
    assert world.batch(batch_id) == ended
    assert [world.lines_of(ended[name]) for name in ("output_file_id", "error_file_id")] == files


def test_lines_without_a_result_expire_with_the_window(world: BatchWorld, clock: Clock):
    batch_id = world.create(request_lines(5))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    world.results.record(batch_id, 1, "id-1", answer())
    world.results.record(batch_id, 3, "id-3", FAILED)
    clock.now += 86_400
    batch = world.carry(clerk, batch_id, "expired")
    Batch.model_validate(batch, strict=True)
    assert batch["request_counts"] == {"total": 5, "completed": 1, "failed": 4}
    assert custom_ids(world.lines_of(batch["output_file_id"])) == ["id-1"]
    errors = world.lines_of(batch["error_file_id"])
    assert custom_ids(errors) == ["id-0", "id-2", "id-3", "id-4"]
    assert [line["error"]["code"] for line in errors] == [
        "batch_expired", "batch_expired", "engine_error", "batch_expired"
    ]  # fmt: skip


def test_a_batch_that_nobody_validated_within_its_window_expires(world: BatchWorld, clock: Clock):
    batch_id = world.create(request_lines(5))
    clock.now += 86_400
    batch = world.carry(world.clerk(), batch_id, "expired")
    assert (batch["output_file_id"], batch["error_file_id"]) == (None, None)


def test_a_bad_file_fails_its_batch_and_names_the_lines(world: BatchWorld):
    batch_id = world.create(request_line("a") + b"\nno json\n" + request_line("a"))
    batch = world.carry(world.clerk(), batch_id, "failed")
    Batch.model_validate(batch, strict=True)
    assert [(error["line"], error["code"]) for error in batch["errors"]["data"]] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
    ]
    assert batch["failed_at"] is not None
    assert world.messages() == []


def test_a_cancelled_batch_keeps_what_it_has(world: BatchWorld, clock: Clock):
    batch_id = world.create(request_lines(4))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    world.results.record(batch_id, 2, "id-2", answer())
    world.sqs.receive_message(QueueUrl=world.settings.pools["batch_processing"].queue_url)  # a worker is at a line
    world.ask("POST", f"/v1/batches/{batch_id}/cancel")
    clerk.poll_and_wait()
    clock.now += 30
    assert world.carry(clerk, batch_id, "cancelling")["request_counts"]["completed"] == 1
    world.results.record(batch_id, 0, "id-0", FAILED)  # and ends it
    clock.now += 60
    batch = world.carry(clerk, batch_id, "cancelled")
    Batch.model_validate(batch, strict=True)
    assert batch["request_counts"] == {"total": 4, "completed": 1, "failed": 1}
    assert custom_ids(world.lines_of(batch["output_file_id"])) == ["id-2"]
    assert custom_ids(world.lines_of(batch["error_file_id"])) == ["id-0"]


def test_a_cancelled_batch_that_no_worker_is_at_ends_soon(world: BatchWorld, clock: Clock):
    batch_id = world.create(request_lines(4))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    world.ask("POST", f"/v1/batches/{batch_id}/cancel")
    clock.now += 1
    assert world.carry(clerk, batch_id, "cancelled")["output_file_id"] is None


def test_a_batch_cancelled_before_validation_sends_nothing(world: BatchWorld):
    batch_id = world.create(request_lines(4))
    world.ask("POST", f"/v1/batches/{batch_id}/cancel")
    batch = world.carry(world.clerk(), batch_id, "cancelled")
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert world.messages() == []


def test_lines_go_to_the_pool_that_the_rule_names(world: BatchWorld):
    long_prompt = "x" * 4 * 2100
    batch_id = world.create(request_line("short") + b"\n" + request_line("long", long_prompt))
    world.carry(world.clerk(), batch_id, "in_progress")
    assert {message["custom_id"]: message["pool"] for message in world.messages()} == {
        "short": "batch_processing",
        "long": "cost_efficient",  # its role, high_performance, is routed there
    }


def test_a_line_too_long_for_every_pool_fails_by_name(world: BatchWorld):
    lines = [request_line("ok"), request_line("long", "x" * 16 * 5000), request_line("much", max_tokens=5000)]
    batch_id = world.create(b"\n".join(lines))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    assert custom_ids(world.messages()) == ["ok"]
    world.results.record(batch_id, 0, "ok", answer())
    batch = world.carry(clerk, batch_id, "completed")
    errors = world.lines_of(batch["error_file_id"])
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [
        ("long", "context_length_exceeded"),
        ("much", "context_length_exceeded"),
    ]
    assert "4096 tokens" in errors[0]["error"]["message"]


def test_a_line_without_a_maximum_is_not_too_long_by_what_is_expected_of_it(world: BatchWorld):
    batch_id = world.create(request_line("fits", "x" * 4 * 4050, max_tokens=None))
    world.carry(world.clerk(), batch_id, "in_progress")
    assert custom_ids(world.messages()) == ["fits"]


def test_clerks_share_batches_and_none_is_done_twice(world: BatchWorld):
    batch_ids = [world.create(request_lines(5)) for _ in range(6)]
    clerks = [world.clerk(), world.clerk()]
    for _ in range(20):
        for clerk in clerks:
            clerk.poll()
    for batch_id in batch_ids:
        world.carry(clerks[0], batch_id, "in_progress")
    clerks[1].poll_and_wait()
    assert len(world.messages()) == 30


def test_a_clerk_whose_lease_was_taken_over_changes_nothing(world: BatchWorld, clock: Clock):
    batch_id = world.create(request_lines(1))
    frozen = world.batches.lease(batch_id, "frozen", clock.now, 10)
    assert frozen is not None
    assert world.batches.lease(batch_id, "other", clock.now + 9, 10) is None
    assert world.batches.lease(batch_id, "other", clock.now + 11, 10) is not None
    with pytest.raises(LeaseLostError):
        world.batches.advance(frozen, "frozen", {"status": "in_progress"})
    with pytest.raises(LeaseLostError):
        world.batches.end(frozen, "frozen", "completed", clock.now, {})
    world.batches.give_back(batch_id, "frozen")
    assert world.batches.lease(batch_id, "third", clock.now + 12, 10) is None
    assert world.batch(batch_id)["status"] == "validating"


def test_counts_never_pass_the_total_though_workers_repeat_themselves(world: BatchWorld):
    batch_id = world.create(request_lines(150))
    world.carry(world.clerk(), batch_id, "in_progress")
    record = world.batches.get(batch_id)
    assert record is not None
    for line in (0, 99, 100, 149, 0, 149):
        world.ledger.count(batch_id, line, "completed", 0)
        world.ledger.count(batch_id, line, "failed", 0)
    assert world.batches.counts(record) == Counts(150, 4, 0)
