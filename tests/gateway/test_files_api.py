"""The Files endpoints, against a local cloud."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import FileDeleted, FileObject

from llm_fleet.batches.file_objects import PART_BYTES
from llm_fleet.gateway import files_api
from tests.batches.batch_world import BOB, BOUNDARY, FORM_HEADERS, BatchWorld, Clock, form, request_lines
from tests.batches.fixtures import clock, world

__all__ = ["clock", "world"]

DAY_S = 86_400


def refused(answer: tuple[int, Any], status: int) -> dict[str, Any]:
    assert answer[0] == status, answer
    return answer[1]["error"]


def test_a_file_comes_back_as_it_was_sent(world: BatchWorld):
    sent = world.upload(request_lines(3), filename="mine.jsonl")
    FileObject.model_validate(sent, strict=True)
    assert (sent["filename"], sent["bytes"], sent["purpose"]) == ("mine.jsonl", len(request_lines(3)), "batch")
    assert world.ask("GET", f"/v1/files/{sent['id']}") == (200, sent)
    assert world.ask("GET", f"/v1/files/{sent['id']}/content") == (200, request_lines(3))


def test_a_file_of_several_parts_comes_back_as_it_was_sent(world: BatchWorld):
    content = bytes(range(256)) * (2 * PART_BYTES // 256) + b"the end"
    body = form(content)
    pieces = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    status, sent = world.ask("POST", "/v1/files", pieces, headers=FORM_HEADERS)
    assert (status, sent["bytes"]) == (200, len(content))
    assert world.ask("GET", f"/v1/files/{sent['id']}/content")[1] == content


def test_an_empty_file_may_be_sent_and_fetched(world: BatchWorld):
    sent = world.upload(b"")
    assert world.ask("GET", f"/v1/files/{sent['id']}/content") == (200, b"")


def test_a_file_that_is_too_large_leaves_nothing_behind(world: BatchWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files_api, "MAX_FILE_BYTES", PART_BYTES + 1000)
    body = form(b"x" * (PART_BYTES + 2000))
    pieces = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    error = refused(world.ask("POST", "/v1/files", pieces, headers=FORM_HEADERS), 413)
    assert error["code"] == "file_too_large"
    assert world.s3.list_objects_v2(Bucket=world.files_bucket)["KeyCount"] == 0
    assert world.ask("GET", "/v1/files")[1]["data"] == []


@pytest.mark.parametrize("purpose", ["fine-tune", "batch_output", ""])
def test_another_purpose_than_batch_is_refused(world: BatchWorld, purpose: str):
    error = refused(world.ask("POST", "/v1/files", form(b"x", purpose=purpose), headers=FORM_HEADERS), 400)
    assert error["param"] == "purpose"


def test_a_purpose_after_the_file_is_refused_too(world: BatchWorld):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
    body = f'{head}file"; filename="a"\r\n\r\nx\r\n{head}purpose"\r\n\r\nvision\r\n--{BOUNDARY}--\r\n'.encode()
    assert refused(world.ask("POST", "/v1/files", body, headers=FORM_HEADERS), 400)["param"] == "purpose"
    assert world.s3.list_objects_v2(Bucket=world.files_bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [(form(b"x", purpose=None), "purpose"), (f"--{BOUNDARY}--\r\n".encode(), "file"), (b"no form", None)],
)
def test_a_form_that_lacks_something_is_refused_by_its_name(world: BatchWorld, body: bytes, param: str | None):
    assert refused(world.ask("POST", "/v1/files", body, headers=FORM_HEADERS), 400)["param"] == param


def test_a_body_that_is_no_form_is_refused(world: BatchWorld):
    error = refused(world.ask("POST", "/v1/files", b"{}", headers={"content-type": "application/json"}), 400)
    assert "multipart/form-data" in error["message"]


@pytest.mark.parametrize(
    "filename", ["../../etc/passwd", "/abs", "key#x", "file-000000000000000000000000.jsonl", "ü" * 500]
)
def test_a_file_name_decides_nothing_about_where_the_file_lies(world: BatchWorld, filename: str):
    sent = world.upload(b"x", filename=filename)
    stored = world.s3.list_objects_v2(Bucket=world.files_bucket)["Contents"]
    assert [each["Key"] for each in stored] == [f"{sent['id']}.jsonl"]


@pytest.mark.parametrize(
    "file_id", ["file-000000000000000000000000", "open", "key%23aaaaaaaaaaaa", "x" * 3000, "..", "batch"]
)
def test_a_missing_file_is_404_whatever_its_id_looks_like(world: BatchWorld, file_id: str):
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        error = refused(world.ask(method, f"/v1/files/{file_id}{path}"), 404)
        assert error["message"].startswith("No such File object: ")


def test_another_keys_file_is_404_in_the_words_of_a_missing_one(world: BatchWorld):
    mine = world.upload(b"secret")["id"]
    missing = "file-0123456789abcdef01234567"
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        theirs = refused(world.ask(method, f"/v1/files/{mine}{path}", key=BOB), 404)
        nobodys = refused(world.ask(method, f"/v1/files/{missing}{path}", key=BOB), 404)
        assert {**theirs, "message": theirs["message"].replace(mine, missing)} == nobodys
    assert world.ask("GET", "/v1/files", key=BOB)[1]["data"] == []
    assert refused(world.ask("GET", "/v1/files", key=BOB, query={"after": mine}), 404)
    assert world.ask("GET", f"/v1/files/{mine}/content") == (200, b"secret")


def test_files_are_listed_by_time_and_in_pages(world: BatchWorld, clock: Clock):
    sent: list[str] = []
    for _ in range(5):
        clock.now += 1
        sent.append(world.upload(b"x")["id"])

    def listed(**query: str) -> tuple[list[str], bool]:
        page = world.ask("GET", "/v1/files", query=query)[1]
        return [file["id"] for file in page["data"]], page["has_more"]

    assert listed() == (sent[::-1], False)
    assert listed(order="asc", limit="2") == (sent[:2], True)
    assert listed(order="asc", limit="3", after=sent[1]) == (sent[2:], False)
    assert listed(after=sent[3], limit="1") == ([sent[2]], True)
    assert listed(purpose="batch_output") == ([], False)


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "10001"}, {"limit": "²"}, {"limit": ""}, {"order": "up"}])
def test_a_list_with_a_bad_parameter_names_it(world: BatchWorld, query: dict[str, str]):
    assert refused(world.ask("GET", "/v1/files", query=query), 400)["param"] == next(iter(query))


def test_a_deleted_file_is_gone(world: BatchWorld):
    file_id = world.upload(b"x")["id"]
    status, deleted = world.ask("DELETE", f"/v1/files/{file_id}")
    assert status == 200
    FileDeleted.model_validate(deleted, strict=True)
    assert world.ask("GET", f"/v1/files/{file_id}")[0] == 404
    assert world.ask("GET", "/v1/files")[1]["data"] == []
    assert world.s3.list_objects_v2(Bucket=world.files_bucket)["KeyCount"] == 0


def test_the_input_of_an_open_batch_cannot_be_deleted(world: BatchWorld):
    batch_id = world.create(request_lines(1))
    file_id = world.batch(batch_id)["input_file_id"]
    error = refused(world.ask("DELETE", f"/v1/files/{file_id}"), 409)
    assert batch_id in error["message"]
    world.ask("POST", f"/v1/batches/{batch_id}/cancel")
    world.carry(world.clerk(), batch_id, "cancelled")
    assert world.ask("DELETE", f"/v1/files/{file_id}")[0] == 200


def test_a_file_is_gone_after_30_days_or_what_was_asked_for(world: BatchWorld, clock: Clock):
    more = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n3600\r\n'
    short = world.ask("POST", "/v1/files", form(b"x", more=more), headers=FORM_HEADERS)[1]
    long = world.upload(b"x")
    assert short["expires_at"] == clock.now + 3600
    assert long["expires_at"] == clock.now + 30 * DAY_S
    clock.now += 3601
    assert world.ask("GET", f"/v1/files/{short['id']}")[0] == 404
    assert [file["id"] for file in world.ask("GET", "/v1/files")[1]["data"]] == [long["id"]]


def test_storage_that_does_not_answer_is_503_and_says_when_to_come_again(
    world: BatchWorld, monkeypatch: pytest.MonkeyPatch
):
    file_id = world.upload(b"x")["id"]
    world.dynamodb.delete_table(TableName=world.settings.batch_table)
    assert refused(world.ask("GET", f"/v1/files/{file_id}"), 503)["code"] == "storage_unavailable"
