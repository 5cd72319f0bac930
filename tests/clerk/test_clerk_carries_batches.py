"""A batch from upload to its files, with a clerk in this process and results written as workers write them."""

from __future__ import annotations

from openai.types import Batch, FileObject

from tests.batches.batch_world import BatchWorld, answer, request_lines


def test_a_batch_goes_from_upload_to_completed_output(world: BatchWorld):
    batch_id = world.create(request_lines(25))
    assert world.batch(batch_id)["status"] == "validating"
    clerk = world.clerk()
    batch = world.carry(clerk, batch_id, "in_progress")
    assert batch["request_counts"] == {"total": 25, "completed": 0, "failed": 0}
    messages = world.messages()
    assert sorted(message["line"] for message in messages) == list(range(25))
    for message in reversed(messages):
        world.results.record(batch_id, message["line"], message["custom_id"], answer(message["custom_id"]))
    batch = world.carry(clerk, batch_id, "completed")
    assert batch["request_counts"] == {"total": 25, "completed": 25, "failed": 0}
    assert batch["error_file_id"] is None
    output = world.lines_of(batch["output_file_id"])
    assert [line["custom_id"] for line in output] == [f"id-{number}" for number in range(25)]
    assert output[3]["response"]["body"]["choices"][0]["message"]["content"] == "id-3"
    assert batch["usage"]["total_tokens"] == 25 * 5
    Batch.model_validate(batch, strict=True)
    FileObject.model_validate(world.ask("GET", f"/v1/files/{batch['output_file_id']}")[1], strict=True)
