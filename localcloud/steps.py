"""Show the steps of a longer run as they happen, each with its seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

WIDTH = 100


class Steps:
    """Numbers the steps of a run. `with steps.step("plan"):` prints the name at once, the seconds when it is done."""

    def __init__(self, total: int, output: TextIO = sys.stdout) -> None:
        self._total, self._output, self._number = total, output, 0

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Print the step around the block; a failed one says so and lets the exception pass."""
        self._number += 1
        number = f"{self._number:>{len(str(self._total))}}/{self._total}"
        self._output.write(f"  {number} {name} ".ljust(WIDTH, "."))
        self._output.flush()
        start = time.monotonic()
        try:
            yield
        except BaseException:
            self._output.write(" failed\n")
            raise
        self._output.write(f" {time.monotonic() - start:.1f} s\n")
        self._output.flush()
