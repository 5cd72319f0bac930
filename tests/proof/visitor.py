"""A client that chats while everything else happens: each of its streams ends as it should, or with an error."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import httpx2
import openai

from tests.proof.answers import MODEL, answer

TOKENS = 8
PAUSE_S = 0.3


class Visitor:
    """Asks one streamed question after another, from a thread of its own, until told to stop."""

    def __init__(self, base_url: str, key: str) -> None:
        self._client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: Counter[str] = Counter()
        """answered, refused (an error status), broken (an error in mid-stream), unreachable."""
        self.wrong: list[str] = []
        """Answers that are none, and streams that just end."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "a stream hangs"
        self._client.close()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE_S):
            number += 1
            self.seen[self._ask(f"the visitor's question {number}")] += 1

    def _ask(self, question: str) -> str:
        messages: Any = [{"role": "user", "content": question}]
        said, finished, begun = "", False, False
        try:
            chunks = self._client.chat.completions.create(
                model=MODEL, messages=messages, max_tokens=TOKENS, stream=True
            )
            for chunk in chunks:
                begun = True
                for choice in chunk.choices:
                    said += choice.delta.content or ""
                    finished = finished or choice.finish_reason is not None
        except openai.APIStatusError:
            return "refused"
        except (openai.APIError, httpx2.HTTPError):
            return "broken" if begun else "unreachable"
        if not finished or said != answer(question, TOKENS):
            self.wrong.append(f"{question}: {said!r}, finished: {finished}")
        return "answered"
