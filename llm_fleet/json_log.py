"""The log of a service: one JSON object a line on standard output, or readable lines for a developer.

No prompt, answer or key belongs in a log line.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import TextIO

import orjson

VARIABLE = "LLM_FLEET_LOG"
"""Environment variable: `text` for readable lines."""


class JsonLog:
    """Writes events. `always` stands in every line."""

    def __init__(self, service: str, output: TextIO | None = None, **always: object) -> None:
        self._output = output or sys.stdout
        self._readable = os.environ.get(VARIABLE) == "text"
        self._always = {"service": service, **always}

    def event(self, event: str, **facts: object) -> None:
        """Write one line. Never raises for a value: what JSON lacks is written as text."""
        if self._readable:
            words = " ".join(f"{name}={value}" for name, value in facts.items())
            line = f"{datetime.now(UTC):%H:%M:%S} {self._always['service']:8} {event} {words}"
        else:
            line = orjson.dumps(
                {"time": round(time.time(), 3), "event": event, **self._always, **facts},
                default=str,
                option=orjson.OPT_NON_STR_KEYS,
            ).decode()
        self._output.write(line + "\n")
        self._output.flush()

    def fault(self, error: BaseException, **facts: object) -> None:
        """Write an error of our own code, with its traceback. Never raises: it stands where errors are caught."""
        text = "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError, ValueError):  # the reader left; the file was closed
            self.event("fault", **facts, traceback=text)
