"""A multipart/form-data parser for bodies that come in pieces: what it holds back never exceeds a delimiter.

    form = FormParser(content_type)
    for piece in pieces:
        for event in form.feed(piece):     # FieldStart, bytes of its content, FieldEnd
            ...
    form.finish()

RFC 7578 over RFC 2046. What must never happen: content taken for a delimiter, or a delimiter split over two pieces
taken for content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_HEADERS_BYTES = 16 * 1024
"""Of one field; real ones hold a name and a file name."""
MAX_FIELDS = 100
"""In one form; OpenAI's have fewer than ten."""
MAX_BOUNDARY_BYTES = 200
"""RFC 2046 says 70; some senders make longer ones."""
_PARAMETER = re.compile(r';\s*([A-Za-z0-9!#$&+.^_`|~*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))')


class FormError(ValueError):
    """The body is no form; the message says why."""


@dataclass(frozen=True)
class FieldStart:
    """A field begins; its content follows as bytes, up to FieldEnd."""

    name: str
    filename: str | None
    """None where the field is no file."""


@dataclass(frozen=True)
class FieldEnd:
    """The field's content is complete."""


Event = FieldStart | FieldEnd | bytes


class FormParser:
    """One form.

    Raises:
        FormError: the content type is none of a form, or names no boundary.
    """

    def __init__(self, content_type: str) -> None:
        self._delimiter = b"\r\n--" + boundary(content_type)
        # The first delimiter has no line before it: with this one, all are alike.
        self._buffer = bytearray(b"\r\n")
        self._state = "preamble"
        self._fields = 0

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that a piece completes; run the iterator to its end before the next piece.

        Raises:
            FormError: this is no form. Nothing may be fed after it.
        """
        self._buffer += piece
        while True:
            if self._state in ("preamble", "content"):
                at = self._buffer.find(self._delimiter)
                # What may be the start of a delimiter waits for the next piece.
                end = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
                if self._state == "content" and end:
                    with memoryview(self._buffer) as view:
                        content = bytes(view[:end])
                    yield content
                if at < 0:
                    del self._buffer[:end]
                    return
                del self._buffer[: at + len(self._delimiter)]
                if self._state == "content":
                    yield FieldEnd()
                self._state = "delimiter"
            elif self._state == "delimiter":
                if not self._end_of_delimiter():
                    return
            elif self._state == "headers":
                at = self._buffer.find(b"\r\n\r\n")
                if (at if at >= 0 else len(self._buffer)) > MAX_HEADERS_BYTES:
                    raise FormError(f"the headers of a field are longer than {MAX_HEADERS_BYTES} bytes")
                if at < 0:
                    return
                headers = bytes(self._buffer[:at])
                del self._buffer[: at + 4]
                yield self._field(headers)
                self._state = "content"
            else:
                self._buffer.clear()  # the epilogue
                return

    def finish(self) -> None:
        """To be called at the end of the body.

        Raises:
            FormError: the last delimiter has not come.
        """
        if self._state != "epilogue":
            raise FormError("the form ends before its last boundary")

    def _end_of_delimiter(self) -> bool:
        """Whether what follows a delimiter is complete: -- and the form ends, a line end and a field begins."""
        rest = bytes(self._buffer)
        if rest.startswith(b"--"):
            self._state = "epilogue"
            return True
        line = rest.lstrip(b" \t")
        if line.startswith(b"\r\n"):
            del self._buffer[: len(rest) - len(line)]  # keeps the line end: a field without headers begins \r\n\r\n
            self._state = "headers"
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise FormError(f"the form has more than {MAX_FIELDS} fields")
            return True
        if len(line) > 2 or (line and line != b"\r" and line != b"-"):
            raise FormError("a boundary is followed by other text")
        if len(rest) > MAX_BOUNDARY_BYTES:
            raise FormError("a boundary is followed by too many blanks")
        return False

    def _field(self, headers: bytes) -> FieldStart:
        text = headers.decode("utf-8", "replace")
        for line in text.split("\r\n"):
            name, colon, value = line.partition(":")
            if colon and name.strip().lower() == "content-disposition":
                parameters = _parameters(value)
                if value.split(";")[0].strip().lower() != "form-data" or "name" not in parameters:
                    break
                return FieldStart(parameters["name"], parameters.get("filename"))
        raise FormError("a field has no Content-Disposition: form-data with a name")


def boundary(content_type: str) -> bytes:
    """The boundary that a content type names.

    Raises:
        FormError: it is none of a form, or names none.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise FormError(f"Content-Type is {kind[:80]!r}; send multipart/form-data")
    found = _parameters(content_type).get("boundary", "")
    if not found or len(found) > MAX_BOUNDARY_BYTES or not found.isascii():
        raise FormError("Content-Type names no boundary of 1 to 200 ASCII characters")
    return found.encode()


def _parameters(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(header):
        # Browsers escape a quote in a file name as %22 and send a backslash as it is.
        found.setdefault(name.lower(), quoted.replace('\\"', '"') if quoted else plain)
    return found
