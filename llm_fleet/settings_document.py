"""A settings document that the stack wrote, read by a service at its start: typed, or refused key by key."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llm_fleet.errors import InputError, Problem

Document = TypeVar("Document", bound=BaseModel)


def parse_document(shape: type[Document], text: str | bytes, where: str, version: int) -> Document:
    """The document in its shape. `where` names it to whoever reads the message.

    Raises:
        InputError: it is no JSON, of another version than the one that is read, or wrong; each problem with its key.
    """
    try:
        return shape.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise InputError([_problem(dict(each), where, version) for each in found]) from error


def _problem(error: dict[str, Any], where: str, version: int) -> Problem:
    key = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"])
    if key == "version":
        message = f"this image reads version {version}: deploy image and stack of the same release"
    given = repr(error["input"])[:80] if key and error["type"] != "missing" else ""
    return Problem(f"{where}: {key}" if key else where, message, given)
