"""Records, the table and files in pieces, as gateway and clerk rest on them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.batches.file_objects import PART_BYTES, FileObjects
from llm_fleet.batches.records import (
    BatchError,
    BatchRecord,
    FileRecord,
    Usage,
    batch_attributes,
    batch_record,
    file_attributes,
    file_record,
    new_batch_id,
    new_file_id,
)
from llm_fleet.batches.table import ConditionFailedError, key
from tests.batches.batch_world import CHAT, BatchWorld, Clock, request_lines

words = st.text(max_size=20)
counts = st.integers(0, 10**12)


@given(st.builds(FileRecord, words, words, counts, counts, words, words, counts, words))
def test_a_file_is_read_as_it_was_written(record: FileRecord):
    assert file_record(file_attributes(record)) == record


@given(
    st.none() | st.dictionaries(words, words),
    st.lists(st.builds(BatchError, words, words, st.none() | counts, st.none() | words)).map(tuple),
    st.none() | st.builds(Usage, counts, counts, counts, counts),
    st.none() | counts,
)
def test_a_batch_is_read_as_it_was_written(
    metadata: dict[str, str] | None, errors: tuple[BatchError, ...], usage: Usage | None, ended_at: int | None
):
    record = BatchRecord(
        "batch_1", "k", CHAT, "f", 1, "24h", 5, 6, "failed", metadata, errors=errors, usage=usage, failed_at=ended_at
    )
    assert batch_record({**batch_attributes(record), **key("batch_1", "batch")}) == record


def test_a_batch_that_is_added_again_keeps_what_was_done_since(world: BatchWorld):
    """As a client repeats a write whose answer was lost."""
    batch_id = world.create(request_lines(1))
    before = world.batches.get(batch_id)
    assert before is not None
    world.carry(world.clerk(), batch_id, "in_progress")
    world.batches.add(before)
    assert world.batch(batch_id)["status"] == "in_progress"


def test_a_batch_cannot_begin_with_a_file_that_was_deleted(world: BatchWorld, clock: Clock):
    now = int(clock.now)
    record = BatchRecord(new_batch_id(), "k", CHAT, new_file_id(), 1, "24h", now, now + 9, "validating")
    with pytest.raises(ConditionFailedError):
        world.batches.add(record)
    assert list(world.batches.open_ids()) == []


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1])
def test_a_file_is_read_as_it_was_written_in_pieces(world: BatchWorld, size: int):
    objects = FileObjects(world.s3, world.files_bucket)
    writer = objects.writer("some.jsonl")
    content = bytes(range(251)) * (size // 251 + 1)
    for start in range(0, size, 1_000_000):
        if writer.add(content[start : min(start + 1_000_000, size)]):
            writer.write_part()
    writer.finish()
    assert writer.size == size
    assert b"".join(objects.read("some.jsonl", size)) == content[:size]
    assert b"".join(objects.read("some.jsonl", size, size // 2)) == content[size // 2 : size]


def test_a_file_that_is_not_finished_is_not_there(world: BatchWorld):
    writer = FileObjects(world.s3, world.files_bucket).writer("some.jsonl")
    writer.add(b"x" * PART_BYTES)
    writer.write_part()
    writer.abort()
    assert world.s3.list_objects_v2(Bucket=world.files_bucket)["KeyCount"] == 0
    assert "Uploads" not in world.s3.list_multipart_uploads(Bucket=world.files_bucket)
