"""What the engine stand-in says: the same to the same, so that an answer shows which request it belongs to."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import orjson

DEFAULT_TOKENS = 4
MODEL = "proof-model"


def answer(text: str, max_tokens: int = DEFAULT_TOKENS) -> str:
    """What the engine says to a text: as many words as asked for."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return " ".join([digest, *(f"w{number}" for number in range(1, max(1, max_tokens)))])


def text_of(request: dict[str, Any]) -> str:
    """All text of a request, whatever its endpoint."""
    if "messages" in request:
        contents = [message["content"] for message in request["messages"]]
        return "\n".join(
            content if isinstance(content, str) else orjson.dumps(content).decode() for content in contents
        )
    given = request.get("prompt", request.get("input", ""))
    return given if isinstance(given, str) else orjson.dumps(given).decode()


def usage(request: dict[str, Any], text: str, words: list[str]) -> dict[str, int]:
    prompt = len(text.split())
    return {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}


def chat_reply(request: dict[str, Any], text: str, words: list[str]) -> dict[str, Any]:
    message = {"role": "assistant", "content": " ".join(words)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(request, text, words),
    }


def completion_reply(request: dict[str, Any], text: str, words: list[str]) -> dict[str, Any]:
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.get("model"),
        "choices": [{"index": 0, "text": " ".join(words), "finish_reason": "stop"}],
        "usage": usage(request, text, words),
    }


def embedding_reply(request: dict[str, Any], text: str, words: list[str]) -> dict[str, Any]:
    vector = [byte / 255 for byte in hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8]]
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    return {"object": "list", "data": data, "model": request.get("model"), "usage": usage(request, text, words)}


def response_reply(request: dict[str, Any], text: str, words: list[str]) -> dict[str, Any]:
    content = [{"type": "output_text", "text": " ".join(words), "annotations": []}]
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
    counts = {"input_tokens": len(text.split()), "output_tokens": len(words)}
    facts = {"id": "resp_1", "object": "response", "created_at": int(time.time()), "status": "completed"}
    return {**facts, "model": request.get("model"), "output": [item], "usage": counts}


REPLIES = {
    "/v1/chat/completions": chat_reply,
    "/v1/completions": completion_reply,
    "/v1/embeddings": embedding_reply,
    "/v1/responses": response_reply,
}


def events(path: str, request: dict[str, Any], words: list[str]) -> list[bytes]:
    """The events of a stream: one a word, the finish, the usage when it was asked for, the end mark."""
    chat = path == "/v1/chat/completions"
    facts = {"id": "chunk-1", "created": int(time.time()), "model": request.get("model")}
    facts["object"] = "chat.completion.chunk" if chat else "text_completion"

    def chunk(word: str, finish: str | None) -> bytes:
        piece = {"delta": {"content": word} if word else {}} if chat else {"text": word}
        return orjson.dumps({**facts, "choices": [{"index": 0, **piece, "finish_reason": finish}]})

    sent = [chunk(word if number == 0 else f" {word}", None) for number, word in enumerate(words)]
    sent.append(chunk("", "stop"))
    if (request.get("stream_options") or {}).get("include_usage"):
        sent.append(orjson.dumps({**facts, "choices": [], "usage": usage(request, text_of(request), words)}))
    return [*sent, b"[DONE]"]


def error_body(message: str, status: int) -> bytes:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})
