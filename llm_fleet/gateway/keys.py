"""API keys: what a key is, how it is made, and how a request's key is checked.

At rest a key is its SHA-256: keys hold 256 random bits, so a slow hash would guard nothing. The table is read whole
every REFRESH_S into memory, so that a check costs no call; a key that was just made is looked up at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from llm_fleet.routing import Budget, Priority

PREFIX = "llmf"
_KEY = re.compile(rf"{PREFIX}-([^-]{{12}})-.", re.DOTALL)
"""The prefix, the id, a secret that is not empty."""
_ID = slice(len(PREFIX) + 1, len(PREFIX) + 13)


@dataclass(frozen=True)
class ApiKey:
    """A key as it is stored. None means no limit of its own."""

    key_id: str
    sha256: str
    """Of the whole key, in hex."""
    name: str
    """Who or what uses it, for people."""
    created_at: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    priority: Priority | None = None
    """Of requests that name none."""
    budget: Budget | None = None
    """Of requests that name none."""


def new_key(
    name: str,
    created_at: int,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    priority: Priority | None = None,
    budget: Budget | None = None,
) -> tuple[str, ApiKey]:
    """A new key: its text, to be shown once, and what is stored."""
    key_id = secrets.token_hex(6)
    text = f"{PREFIX}-{key_id}-{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return text, ApiKey(key_id, sha256, name, created_at, requests_per_minute, tokens_per_minute, priority, budget)


def id_of(text: str) -> str | None:
    """The id inside a key's text, or None where it is no key of ours."""
    found = _KEY.match(text)
    return found[1] if found else None


def matching(text: str, keys: Mapping[str, ApiKey]) -> ApiKey | None:
    """The key that `text` is, of those by id. The comparison takes the same time wherever they differ.

    Where the id would stand is enough to find a candidate: the hash is of the whole text.
    """
    key = keys.get(text[_ID])
    if key is None:
        return None
    return key if hmac.compare_digest(hashlib.sha256(text.encode()).hexdigest(), key.sha256) else None
