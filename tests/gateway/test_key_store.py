"""API keys in their table, and in the gateway's memory."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.gateway import key_store
from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.key_store import KeyStore, create_key, list_keys, revoke_key
from llm_fleet.json_log import JsonLog
from localcloud.cloud import LocalCloud, free_port


@pytest.fixture(scope="module")
def client(shared_cloud: LocalCloud) -> Any:
    return shared_cloud.client("dynamodb")


@pytest.fixture
def table(client: Any, request: pytest.FixtureRequest) -> str:
    name = request.node.originalname
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "key_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


class CountingClient:
    """The real client; counts look-ups."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.look_ups = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_item(self, **arguments: Any) -> Any:
        self.look_ups += 1
        return self._client.get_item(**arguments)


def store_of(client: Any, table: str, log: io.StringIO | None = None) -> KeyStore:
    return KeyStore(client, table, JsonLog("gateway", log or io.StringIO()))


def silent_client() -> Any:
    """A client of an endpoint where nobody listens."""
    return boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1),
    )


def unknown_key(number: int) -> str:
    return f"llmf-{number:012x}-secret"


def test_a_created_key_is_found_with_all_that_was_said_of_it(client: Any, table: str) -> None:
    text, key = create_key(
        client, table, "nightly job", requests_per_minute=60, tokens_per_minute=9000, priority="batch", budget="strict"
    )
    store = store_of(client, table)
    assert store.find(text) is None
    store.load()
    assert store.find(text) == key
    assert (key.name, key.requests_per_minute, key.tokens_per_minute) == ("nightly job", 60, 9000)
    assert (key.priority, key.budget) == ("batch", "strict")


def test_the_table_does_not_hold_the_keys_text(client: Any, table: str) -> None:
    text, _ = create_key(client, table, "a test")
    secret = text.rsplit("-", 1)[1]
    assert secret not in str(client.scan(TableName=table)["Items"])


def test_another_secret_behind_a_known_id_finds_nothing_and_asks_nobody(client: Any, table: str) -> None:
    text, key = create_key(client, table, "a test")
    counting = CountingClient(client)
    store = store_of(counting, table)
    store.load()
    forged = f"llmf-{key.key_id}-{'x' * 43}"
    assert store.find(forged) is None
    assert asyncio.run(store.find_new(forged)) is None
    assert counting.look_ups == 0
    assert store.find(text) == key


def test_keys_are_listed_oldest_first_over_several_pages(client: Any, table: str) -> None:
    padding = "x" * 20_000
    made = [create_key(client, table, f"{number} {padding}")[1] for number in range(60)]  # above 1 MB, a page's limit
    listed = list_keys(client, table)
    assert set(listed) == set(made)
    assert list(listed) == sorted(listed, key=lambda key: key.created_at)


def test_a_revoked_key_is_gone_after_the_next_refresh(client: Any, table: str) -> None:
    text, key = create_key(client, table, "a test")
    store = store_of(client, table)
    store.load()
    assert revoke_key(client, table, key.key_id) is True
    assert revoke_key(client, table, key.key_id) is False
    store.load()
    assert store.find(text) is None
    assert asyncio.run(store.find_new(text)) is None


def test_a_key_that_was_just_made_works_at_once(client: Any, table: str) -> None:
    store = store_of(client, table)
    store.load()
    text, key = create_key(client, table, "new")
    assert store.find(text) is None
    assert asyncio.run(store.find_new(text)) == key
    assert store.find(text) == key


def test_first_requests_at_the_same_time_share_one_look_up(client: Any, table: str) -> None:
    counting = CountingClient(client)
    store = store_of(counting, table)
    text, key = create_key(client, table, "new")

    async def together() -> list[Any]:
        return await asyncio.gather(*(store.find_new(text) for _ in range(50)))

    assert asyncio.run(together()) == [key] * 50
    assert counting.look_ups == 1


def test_an_unknown_key_is_looked_up_once_not_with_every_request(client: Any, table: str) -> None:
    counting = CountingClient(client)
    store = store_of(counting, table)

    async def again_and_again() -> None:
        for _ in range(20):
            assert await store.find_new(unknown_key(1)) is None

    asyncio.run(again_and_again())
    assert counting.look_ups == 1


def test_a_flood_of_made_up_keys_neither_floods_the_table_nor_the_memory(
    client: Any, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_store, "MAX_UNKNOWN", 5)
    monkeypatch.setattr(key_store.time, "monotonic", lambda: 1000.0)
    counting = CountingClient(client)
    store = store_of(counting, table)

    async def flood() -> None:
        await asyncio.gather(*(store.find_new(unknown_key(number)) for number in range(500)))

    asyncio.run(flood())
    assert counting.look_ups == key_store.LOOK_UPS_PER_S
    assert len(store._unknown) == 5


@pytest.mark.parametrize(
    "text", ["", "sk-other", "llmf-", "llmf-short-x", "llmf-0123456789ab-", "\x00", "llmf-" + "a" * 9999]
)
def test_what_is_no_key_asks_nobody(client: Any, text: str) -> None:
    counting = CountingClient(client)
    store = store_of(counting, "nowhere")
    assert store.find(text) is None
    assert asyncio.run(store.find_new(text)) is None
    assert counting.look_ups == 0


def test_a_table_that_does_not_answer_says_503_not_wrong_key() -> None:
    log = io.StringIO()
    store = store_of(silent_client(), "keys", log)
    with pytest.raises(ApiError) as error:
        asyncio.run(store.find_new(unknown_key(1)))
    assert (error.value.status, error.value.code, error.value.headers) == (
        503,
        "keys_unavailable",
        {"retry-after": "5"},
    )
    assert "secret" not in log.getvalue()


def test_keys_stay_while_the_table_does_not_answer(client: Any, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    text, key = create_key(client, table, "a test")
    store = store_of(client, table, log)
    store.load()
    monkeypatch.setattr(store, "_client", silent_client())

    async def a_refresh_that_fails() -> None:
        task = asyncio.create_task(store.run())
        async with asyncio.timeout(10):
            while "keys_refresh_failed" not in log.getvalue():
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(a_refresh_that_fails())
    assert store.find(text) == key


def test_the_table_is_read_again_and_again(client: Any, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_store, "REFRESH_S", 0.02)
    store = store_of(client, table)

    async def until_found() -> None:
        task = asyncio.create_task(store.run())
        await asyncio.sleep(0.05)
        text, _ = create_key(client, table, "a test")
        async with asyncio.timeout(10):
            while store.find(text) is None:
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(until_found())


def test_a_missing_table_is_an_error_of_aws_at_the_first_load(client: Any) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        store_of(client, "nowhere").load()
    with pytest.raises(BotoCoreError):
        store_of(silent_client(), "keys").load()


def test_an_item_that_someone_wrote_by_hand_harms_no_other_key(client: Any, table: str) -> None:
    text, key = create_key(client, table, "a test")
    client.put_item(TableName=table, Item={"key_id": {"S": "broken"}})
    client.put_item(
        TableName=table,
        Item={
            "key_id": {"S": "badnumber"},
            "sha256": {"S": "00"},
            "name": {"S": "x"},
            "created_at": {"S": "yesterday"},
        },
    )
    client.update_item(
        TableName=table,
        Key={"key_id": {"S": key.key_id}},
        UpdateExpression="SET of_a_later_release = :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    store = store_of(client, table)
    store.load()
    assert list_keys(client, table) == (key,)
    assert store.find(text) == key
