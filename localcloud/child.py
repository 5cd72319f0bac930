"""Processes that end with the one that started them, however that ends; and what stands in their log if they fail.

`python localcloud/child.py PARENT COMMAND...` asks the kernel for a SIGTERM when the process PARENT is gone, then
becomes COMMAND. Only Linux can; elsewhere a parent that was killed leaves its children behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 10
POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""


class LocalCloudError(Exception):
    """The local cloud, a process beside it or a command against it failed; the message says where the log is."""


class Child:
    """A running process in a group of its own, which holds whatever it starts too."""

    def __init__(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], log: Path | IO[bytes]
    ) -> None:
        self.name = name
        self._log = log
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(log.open("wb")) if isinstance(log, Path) else log
            self._process = subprocess.Popen(
                ending_with_us(command),
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for `ready()`.

        Raises:
            LocalCloudError: the process ended before, or the time is up.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise LocalCloudError(f"{self.name} was not ready within {seconds:g} s{self._log_end()}")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raises LocalCloudError if the process has ended."""
        if self._process.poll() is not None:
            raise LocalCloudError(f"{self.name} ended with code {self._process.returncode}{self._log_end()}")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask the process to end, wait, then kill what is left of its group. Stopping twice is no error."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _log_end(self) -> str:
        return f":\n{tail(self._log)}" if isinstance(self._log, Path) else ""


class Server(ABC):
    """A server on loopback, in a process and a virtual environment of its own, for as long as a `with` lasts."""

    def __init__(self, name: str, environment_folder: str, log: Path | IO[bytes]) -> None:
        self._name = name
        self._python = ROOT / environment_folder / "bin" / "python"
        self._output = log
        self._child: Child | None = None

    @abstractmethod
    def arguments(self) -> list[str]:
        """Of its Python."""

    @abstractmethod
    def environment_of_process(self) -> Mapping[str, str]:
        """What the process gets."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    def start(self) -> None:
        """Start the process and wait until it answers. `with` does this unless it was done before.

        Raises:
            LocalCloudError: it is not installed, ended, or stayed silent.
        """
        if not self._python.exists():
            raise LocalCloudError(f"{self._python.relative_to(ROOT)} is missing: run make setup")
        command = [self._python, *self.arguments()]
        self._child = Child(self._name, command, self.environment_of_process(), self._output)
        try:
            self._child.wait_until(self.ready, START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the process and all that it started. Stopping twice is no error."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def __enter__(self) -> Self:
        if self._child is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def ending_with_us(command: Sequence[str | Path]) -> list[str | Path]:
    """The command, changed to one that ends with this process."""
    return [sys.executable, __file__, str(os.getpid()), *command]


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, under its path."""
    text = log.read_text(errors="replace").splitlines()
    return "\n".join((f"{log}, last lines:", *(f"  {line}" for line in text[-lines:])))


def main(arguments: Sequence[str]) -> None:
    """Become the command, with the parent's end as a SIGTERM."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before the kernel was told
        sys.exit(f"{command[0]}: the process that wanted it is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
