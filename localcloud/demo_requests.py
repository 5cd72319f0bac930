"""What the demo asks of a fleet, with the official client: a chat, a streamed chat, a batch."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openai import DefaultHttpxClient, OpenAI

from localcloud.child import LocalCloudError

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

INSTRUCTION = "You are a helpful assistant. Answer in one short sentence."
CHAT = "What is the capital of France?"
STREAMED = "Why is the sky blue?"
BATCH = ("What is the capital of Italy?", "What is the capital of Japan?", "What is the capital of Spain?")
MAX_TOKENS = 96
BATCH_SECONDS = 90
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Answer:
    """An answer, and what its headers say about its way."""

    question: str
    text: str
    pool: str
    reason: str
    cost_at_most_usd: str
    """As the gateway estimated it from the request's maximum of tokens."""
    tokens: int
    """Of the completion."""
    seconds: float
    first_token_seconds: float | None = None
    """Of a streamed one."""


@dataclass(frozen=True)
class BatchAnswers:
    """A batch that has ended."""

    status: str
    completed: int
    failed: int
    lines: tuple[tuple[str, str], ...]
    """custom_id and text, in the order of the input."""
    tokens: int
    seconds: float


def open_client(base_url: str, api_key: str) -> OpenAI:
    """The official client, past any proxy of this machine; what fails is shown, not tried again."""
    http = DefaultHttpxClient(trust_env=False)
    return OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=60, http_client=http)


def chat(client: OpenAI, model: str) -> Answer:
    """A question that waits for its whole answer, in the service tier for people who wait."""
    start = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=_messages(CHAT), max_tokens=MAX_TOKENS, temperature=0, service_tier="priority"
    )
    seconds = time.monotonic() - start
    answer = raw.parse()
    text = answer.choices[0].message.content or ""
    tokens = answer.usage.completion_tokens if answer.usage else 0
    return Answer(CHAT, text, *_way(raw.headers), tokens, seconds)


def streamed_chat(client: OpenAI, model: str) -> Answer:
    """A question whose answer comes piece by piece."""
    start = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=_messages(STREAMED),
        max_tokens=MAX_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces: list[str] = []
    tokens, first = 0, None
    for chunk in raw.parse():
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.monotonic() - start
                pieces.append(choice.delta.content)
    return Answer(STREAMED, "".join(pieces), *_way(raw.headers), tokens, time.monotonic() - start, first)


def batch(client: OpenAI, model: str) -> BatchAnswers:
    """A file of questions, its batch, and the output file.

    Raises:
        LocalCloudError: the batch did not complete in time.
    """
    start = time.monotonic()
    lines = [
        {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": _body(model, question)}
        for number, question in enumerate(BATCH, start=1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    file = client.files.create(file=("questions.jsonl", text.encode()), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while made.status in ("validating", "in_progress", "finalizing"):
        if time.monotonic() - start > BATCH_SECONDS:
            raise LocalCloudError(f"the batch is still {made.status} after {BATCH_SECONDS} s: {made.request_counts}")
        time.sleep(POLL_SECONDS)
        made = client.batches.retrieve(made.id)
    counts = made.request_counts
    if made.status != "completed" or made.output_file_id is None or counts is None:
        raise LocalCloudError(f"the batch ended as {made.status}: {made.errors or counts}")
    output = [json.loads(line) for line in client.files.content(made.output_file_id).text.splitlines()]
    bodies = [(line["custom_id"], line["response"]["body"]) for line in output]
    return BatchAnswers(
        made.status,
        counts.completed,
        counts.failed,
        tuple((custom_id, body["choices"][0]["message"]["content"]) for custom_id, body in bodies),
        sum(body["usage"]["completion_tokens"] for _, body in bodies),
        time.monotonic() - start,
    )


def _messages(question: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]


def _body(model: str, question: str) -> dict[str, object]:
    return {"model": model, "messages": _messages(question), "max_tokens": MAX_TOKENS, "temperature": 0}


def _way(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """Pool, reason and cost, as the gateway says them."""
    return headers["x-llm-fleet-pool"], headers["x-llm-fleet-reason"], headers["x-llm-fleet-cost-usd"]
