"""Files and batches as the official client sees them: over the wire, with a clerk and results as workers write them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import openai
import orjson
import pytest

from llm_fleet.gateway.batches_api import routes
from localcloud.cloud import LocalCloud
from tests.batches.batch_world import CHAT, FAILED, BatchWorld, answer, request_line, request_lines
from tests.gateway.running_gateway import RunningGateway


@pytest.fixture
def world(aws: LocalCloud) -> BatchWorld:
    return BatchWorld(time.time)


@pytest.fixture
def gateway(world: BatchWorld) -> Iterator[RunningGateway]:
    with RunningGateway(routes=routes(world.settings)) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with gateway.client() as client:
        yield client


def test_a_batch_from_upload_to_its_files(world: BatchWorld, client: openai.OpenAI):
    file = client.files.create(file=("mine.jsonl", request_lines(12)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"a": "b"})
    clerk = world.clerk()
    while client.batches.retrieve(batch.id).status == "validating":
        clerk.poll_and_wait()
    for message in world.messages():
        result = FAILED if message["line"] == 7 else answer(message["custom_id"])
        world.results.record(batch.id, message["line"], message["custom_id"], result)
    while (batch := client.batches.retrieve(batch.id)).status != "completed":
        clerk.poll_and_wait()
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 12, "completed": 11, "failed": 1}
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    output = [orjson.loads(line) for line in client.files.content(batch.output_file_id).content.splitlines()]
    assert [line["custom_id"] for line in output] == [f"id-{line}" for line in range(12) if line != 7]
    [error] = client.files.content(batch.error_file_id).text.splitlines()
    assert orjson.loads(error)["error"]["code"] == "engine_error"
    assert {each.id for each in client.files.list()} == {file.id, batch.output_file_id, batch.error_file_id}
    assert client.files.delete(file.id).deleted


def test_a_file_with_bad_lines_fails_its_batch_and_names_them(world: BatchWorld, client: openai.OpenAI):
    file = client.files.create(file=request_line("a") + b"\n{", purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    clerk = world.clerk()
    while (batch := client.batches.retrieve(batch.id)).status == "validating":
        clerk.poll_and_wait()
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(error.line, error.code) for error in batch.errors.data] == [(2, "invalid_json_line")]


def test_lists_are_walked_page_by_page(client: openai.OpenAI):
    file = client.files.create(file=request_lines(1), purpose="batch")
    made = {client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h").id for _ in range(5)}
    assert [batch.id for batch in client.batches.list(limit=2)] == list(
        dict.fromkeys(each.id for each in client.batches.list())
    )
    assert {batch.id for batch in client.batches.list(limit=2)} == made


def test_errors_have_the_clients_own_classes(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="No such File object: file-x"):
        client.files.retrieve("file-x")
    with pytest.raises(openai.NotFoundError, match="No batch found with id"):
        client.batches.cancel("batch_x")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=b"x", purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="24h"):
        client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="1h")  # pyright: ignore[reportArgumentType]
    file = client.files.create(file=request_lines(1), purpose="batch")
    client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.ConflictError, match="has not ended"):
        client.files.delete(file.id)


def test_another_key_sees_nothing_of_it(gateway: RunningGateway, client: openai.OpenAI):
    file = client.files.create(file=request_lines(1), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    stranger_key = gateway.table.add("stranger")
    gateway.keys.load()
    with gateway.client(stranger_key) as stranger:
        assert list(stranger.files.list()) == []
        assert list(stranger.batches.list()) == []
        for call in (
            lambda: stranger.files.retrieve(file.id),
            lambda: stranger.files.content(file.id),
            lambda: stranger.files.delete(file.id),
            lambda: stranger.batches.retrieve(batch.id),
            lambda: stranger.batches.cancel(batch.id),
            lambda: stranger.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h"),
        ):
            with pytest.raises(openai.NotFoundError):
                call()
    assert client.batches.retrieve(batch.id).status == "validating"


def test_a_large_file_is_sent_and_fetched_whole(client: openai.OpenAI):
    content = request_lines(1) + b" " * (20 * 1024 * 1024) + b"\nend"
    file = client.files.create(file=content, purpose="batch")
    assert file.bytes == len(content)
    with client.files.with_streaming_response.content(file.id) as answer:
        assert b"".join(answer.iter_bytes()) == content
