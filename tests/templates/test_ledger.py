"""What holds state keeps its logical id and its create-only properties, or the change is named."""

from __future__ import annotations

import copy
import os

import pytest

from tests.templates import ledger
from tests.templates.assembly import Assembly

BUCKET = {"Type": "AWS::S3::Bucket", "CreateOnly": {"BucketName": "a"}}


def test_nothing_that_holds_state_would_be_replaced(assembly: Assembly) -> None:
    now = ledger.current(assembly)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        ledger.write(ledger.with_new(ledger.read(), now))
    assert list(ledger.replacements(ledger.read(), now)) == []


def test_everything_that_holds_state_is_recorded(assembly: Assembly) -> None:
    missing = ledger.unrecorded(ledger.read(), ledger.current(assembly))
    assert missing == [], "`make snapshots` records what is new"


def test_the_ledger_holds_buckets_tables_keys_queues_and_the_network() -> None:
    kinds = {entry["Type"] for found in ledger.read().values() for entry in found.values()}
    assert {"AWS::S3::Bucket", "AWS::KMS::Key", "AWS::SQS::Queue", "AWS::EC2::VPC", "AWS::EC2::Subnet"} <= kinds
    assert kinds & {"AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable"}


def test_create_only_properties_come_from_the_published_schemas() -> None:
    assert "BucketName" in ledger.create_only_properties("AWS::S3::Bucket")
    assert "CidrBlock" in ledger.create_only_properties("AWS::EC2::VPC")


def test_a_changed_create_only_property_and_a_lost_resource_are_named_with_the_way_to_accept() -> None:
    committed = {"s": {"Files": BUCKET, "Gone": BUCKET}}
    changed = {"s": {"Files": {**BUCKET, "CreateOnly": {"BucketName": "b"}}}}
    sentences = list(ledger.replacements(committed, changed))
    assert "Files would be replaced, as BucketName changed" in sentences[0]
    assert "Gone is gone" in sentences[1]
    assert all("make accept-replacement ID=" in sentence for sentence in sentences)


def test_accepting_one_resource_leaves_the_others_to_be_noticed() -> None:
    committed = {"s": {"A": BUCKET, "B": BUCKET}}
    now = copy.deepcopy(committed)
    now["s"]["A"]["CreateOnly"]["BucketName"] = "new"
    del now["s"]["B"]
    result = ledger.accepted(committed, now, "A")
    assert [sentence for sentence in ledger.replacements(result, now) if " A " in sentence] == []
    assert len(list(ledger.replacements(result, now))) == 1


def test_an_unknown_id_cannot_be_accepted() -> None:
    with pytest.raises(KeyError):
        ledger.accepted({}, {}, "Typo")
