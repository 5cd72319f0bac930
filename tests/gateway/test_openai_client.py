"""The gateway as the official client sees it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.gateway.engine_stand_in import WORDS, EngineStandIn
from tests.gateway.running_gateway import CHAT, MODEL, POOL, RunningGateway, settings

ANSWER = "".join(WORDS)


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    with EngineStandIn() as engine:
        yield engine


@pytest.fixture
def gateway(engine: EngineStandIn) -> Iterator[RunningGateway]:
    with RunningGateway([engine]) as gateway:
        yield gateway


def test_a_chat_is_answered(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7


def test_the_decision_and_the_cost_stand_in_the_headers(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(**CHAT, max_tokens=500)
    assert raw.headers["x-llm-fleet-pool"] == POOL
    assert raw.headers["x-llm-fleet-reason"] == "default"
    assert raw.headers["x-llm-fleet-worker"] == "i-0"
    assert float(raw.headers["x-llm-fleet-cost-usd"]) == pytest.approx(500 * 2.0 / 1e6)
    assert raw.headers["x-request-id"].startswith("req-")


def test_a_chat_streams(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    [line] = gateway.lines()
    assert line["tokens_estimated"] is True
    assert line["completion_tokens"] == 7


def test_a_stream_ends_with_its_usage_when_asked(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        stream = client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 18
    [line] = gateway.lines()
    assert (line["prompt_tokens"], line["completion_tokens"], line["tokens_estimated"]) == (11, 7, False)


def test_completions_are_answered_and_stream(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        assert client.completions.create(model=MODEL, prompt="The capital").choices[0].text == ANSWER
        stream = client.completions.create(model=MODEL, prompt="The capital", stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == ANSWER


def test_embeddings_and_responses_pass_through(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        vector = client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float").data[0].embedding
        response = client.responses.create(model=MODEL, input="What is the capital of France?")
    assert vector == [0.5, 0.25]
    assert response.output_text == ANSWER


def test_models_are_listed_and_retrieved() -> None:
    given = settings(served_model_name="maker/some-model")
    with RunningGateway(given=given) as gateway, gateway.client() as client:
        assert [model.id for model in client.models.list()] == ["maker/some-model"]
        assert client.models.retrieve("maker/some-model").id == "maker/some-model"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("another")


def test_an_unknown_model_is_not_found(gateway: RunningGateway) -> None:
    with gateway.client() as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="another", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "model_not_found"
    assert MODEL in str(caught.value)


def test_a_wrong_key_is_refused_before_the_body_is_read(gateway: RunningGateway) -> None:
    message = {"role": "user", "content": "x" * 2_000_000}
    with gateway.client("llmf-0123456789ab-nonsense") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model=MODEL, messages=[message])  # type: ignore[list-item]


def test_a_key_that_was_just_made_works_at_once(gateway: RunningGateway) -> None:
    with gateway.client(gateway.table.add("new")) as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content == ANSWER


def test_empty_messages_are_a_bad_request(gateway: RunningGateway) -> None:
    with gateway.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[])
    assert caught.value.param == "messages"


def test_more_tokens_than_any_context_are_a_bad_request_that_names_the_limit(gateway: RunningGateway) -> None:
    with gateway.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**CHAT, max_tokens=9000)
    assert caught.value.code == "context_length_exceeded"
    assert "8192" in str(caught.value)


def test_a_prompt_is_not_refused_for_an_estimate(gateway: RunningGateway) -> None:
    long = {"role": "user", "content": "word " * 8000}  # estimated at 10,000 tokens, and it may be 8,000
    with gateway.client() as client:
        answer = client.chat.completions.create(model=MODEL, messages=[long])  # type: ignore[list-item]
    assert answer.choices[0].message.content == ANSWER


def test_a_key_over_its_limit_is_told_when_to_come_again(gateway: RunningGateway) -> None:
    with gateway.client(gateway.table.add("small", requests_per_minute=1)) as client:
        client.chat.completions.create(**CHAT)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**CHAT)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


def test_an_empty_pool_is_unavailable_with_an_honest_retry_after() -> None:
    with RunningGateway() as gateway, gateway.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) > 60


def test_an_engines_own_refusal_reaches_the_client(gateway: RunningGateway, engine: EngineStandIn) -> None:
    engine.orders.append("refuse_with_400")
    with gateway.client() as client, pytest.raises(openai.BadRequestError, match="by order"):
        client.chat.completions.create(**CHAT)


def test_the_key_never_reaches_an_engine_and_the_body_does_unchanged(
    gateway: RunningGateway, engine: EngineStandIn
) -> None:
    with gateway.client(default_headers={"x-api-key": gateway.key, "cookie": gateway.key}) as client:
        client.chat.completions.create(**CHAT)
    [seen] = engine.requests
    assert gateway.key not in seen.head
    assert seen.facts == CHAT
