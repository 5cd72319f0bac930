"""The form that uploads a file: its file, its purpose, and how long it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_fleet.batches.ledger import KEEP_S
from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.multipart import FieldStart
from llm_fleet.gateway.parameters import LEAST_KEEP_S, invalid_value, missing_parameter, whole_number

MAX_FIELD_BYTES = 64 * 1024
"""Of a field that is no file."""


@dataclass
class UploadForm:
    """What the form of an upload holds beside the bytes of its file; told of its fields as they come.

    Calls raise ApiError 400 for a form that is no upload.
    """

    values: dict[str, str] = field(default_factory=dict[str, str])
    filename: str = ""
    has_file: bool = False
    in_file: bool = False
    _name: str = ""
    _content: bytearray = field(default_factory=bytearray)

    def begin(self, start: FieldStart) -> None:
        """A field begins."""
        self._name = start.name
        self._content.clear()
        self.in_file = start.name == "file"
        if self.in_file:
            if self.has_file:
                raise ApiError(400, "The form has two fields named 'file'.", "invalid_form", "file")
            self._check_purpose()  # known already where it came first, as clients send it: nothing is stored in vain
            self.has_file = True
            self.filename = start.filename or ""

    def add(self, content: bytes) -> None:
        """Content of a field that is no file."""
        self._content += content
        if len(self._content) > MAX_FIELD_BYTES:
            message = f"The field {self._name[:80]!r} is longer than {MAX_FIELD_BYTES} bytes."
            raise ApiError(400, message, "invalid_form")

    def end(self) -> None:
        """The field is complete."""
        if not self.in_file:
            self.values[self._name] = self._content.decode("utf-8", "replace")
        self.in_file = False

    def check(self) -> None:
        """The form is complete: is all there?"""
        if not self.has_file:
            raise missing_parameter("file")
        if "purpose" not in self.values:
            raise missing_parameter("purpose")
        self._check_purpose()

    def checked_keep_s(self) -> int:
        """How long the file is kept: 30 days, or what expires_after says."""
        text = self.values.get("expires_after[seconds]")
        return (
            KEEP_S
            if text is None
            else whole_number({"expires_after": text}, "expires_after", KEEP_S, KEEP_S, LEAST_KEEP_S)
        )

    def _check_purpose(self) -> None:
        if self.values.get("purpose", "batch") != "batch":
            raise invalid_value("purpose", self.values["purpose"], "'batch'")
