"""Heads of responses and the framing of bodies."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def status_line(status: int) -> bytes:
    """The first line, for a status with or without a known phrase."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Headers as they stand on the wire. A line break inside a value becomes a space: no value can add a header."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name.lower() not in _OURS)
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        clean = {name: " ".join(value.replace("\0", " ").split()) for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in clean.items() if name.lower() not in _OURS)
    return lines.encode("latin-1", "replace")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. Empty data makes none, as an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


_OURS = frozenset({"content-length", "transfer-encoding", "connection", "x-request-id"})
"""Headers that the wire writes by itself."""
