"""`llm-fleet keys` against a table in the local cloud, and what it says when AWS does not do its part."""

from __future__ import annotations

import pytest

from llm_fleet.cli import main
from llm_fleet.gateway.key_store import list_keys
from localcloud.cloud import LocalCloud

TEMPLATE = """
Resources: {Topic: {Type: 'AWS::SNS::Topic'}}
Outputs: {%s: {Value: some-keys}}
"""


@pytest.fixture(scope="module")
def cloud(shared_cloud: LocalCloud) -> LocalCloud:
    """A cloud with a table of keys and two stacks; only `served` names the table."""
    shared_cloud.client("dynamodb").create_table(
        TableName="some-keys",
        KeySchema=[{"AttributeName": "key_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for stack, output in (("served", "ApiKeysTable"), ("other", "Unrelated")):
        shared_cloud.client("cloudformation").create_stack(StackName=stack, TemplateBody=TEMPLATE % output)
        waiter = shared_cloud.client("cloudformation").get_waiter("stack_create_complete")
        waiter.wait(StackName=stack, WaiterConfig={"Delay": 1})
    return shared_cloud


@pytest.fixture
def in_cloud(cloud: LocalCloud, aws: LocalCloud) -> LocalCloud:
    """The cloud as this process's AWS."""
    return aws


def test_a_key_is_shown_once_and_listed_without_its_secret(
    in_cloud: LocalCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("keys", "create", "reports", "--stack", "served", "--tokens-per-minute", "5000", "--priority", "batch")
    assert main(words) == 0
    text = capsys.readouterr().out.strip()
    (stored,) = (key for key in list_keys(in_cloud.client("dynamodb"), "some-keys") if key.name == "reports")
    assert (stored.tokens_per_minute, stored.requests_per_minute, stored.priority) == (5000, None, "batch")
    assert main(("keys", "list", "--stack", "served")) == 0
    shown = capsys.readouterr().out
    assert stored.key_id in shown
    assert "5000" in shown
    assert text.rpartition("-")[2] not in shown


def test_a_revoked_key_is_gone(in_cloud: LocalCloud, capsys: pytest.CaptureFixture[str]) -> None:
    main(("keys", "create", "short", "--table", "some-keys"))
    key_id = capsys.readouterr().out.split("-")[1]
    assert main(("keys", "revoke", key_id, "--table", "some-keys")) == 0
    assert key_id not in [key.key_id for key in list_keys(in_cloud.client("dynamodb"), "some-keys")]
    capsys.readouterr()
    assert main(("keys", "revoke", key_id, "--table", "some-keys")) == 2
    assert "no such key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stack", "says"), [("serving", "no such stack in us-east-1"), ("other", "has no output ApiKeysTable")]
)
def test_a_stack_without_keys_is_the_users_mistake(
    stack: str, says: str, in_cloud: LocalCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("keys", "list", "--stack", stack)) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_missing_table_is_named_in_one_line(in_cloud: LocalCloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("keys", "list", "--table", "nowhere")) == 3
    error = capsys.readouterr().err
    assert "ResourceNotFoundException" in error
    assert error.count("\n") == 1


def test_without_credentials_or_region_the_fix_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert main(("keys", "list", "--stack", "served")) == 3
    assert "set AWS_PROFILE" in capsys.readouterr().err
    monkeypatch.delenv("AWS_REGION")
    assert main(("keys", "list", "--stack", "served")) == 3
    assert "give --region" in capsys.readouterr().err
