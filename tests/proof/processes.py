"""Real processes of the services and their stand-ins: start, wait, kill, freeze; what they log stays readable."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from localcloud.child import ROOT, tail

START_S = 60
STOP_S = 60
"""Guards, not measures: this machine is shared."""
CLERK_MODULE = "llm_fleet.gateway.clerk"

T = TypeVar("T")


class Process:
    """A process of its own session, with standard output and error in files."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        *,
        python: str = sys.executable,
    ) -> None:
        self.name = name
        self._command = [python, *arguments]
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self.log = folder / f"{name}.log"
        self.errors = folder / f"{name}.stderr"
        self.popen = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log, self.errors.open("ab") as errors:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
                start_new_session=True,
            )

    def restart(self) -> None:
        """The same once more, after its end; the log goes on."""
        assert not self.running, self.name
        self.popen = self._start()

    def events(self) -> Iterator[dict[str, Any]]:
        """Its log so far, line by line."""
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first log line of that event."""

        def found() -> dict[str, Any] | None:
            if self.popen.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}\n{self.story()}")
            return next((line for line in self.events() if line.get("event") == event), None)

        return wait_until(found, START_S, f"{self.name} logs {event!r}", self.story)

    def signal(self, sign: signal.Signals) -> None:
        """To the process alone, as systemd's main process or ECS's first one gets it."""
        if self.popen.poll() is None:
            self.popen.send_signal(sign)

    def kill(self) -> None:
        """SIGKILL to all of its session, as when an instance goes."""
        self._signal_session(signal.SIGKILL)
        self.popen.wait(STOP_S)

    def freeze(self) -> None:
        """Stop it where it stands; `thaw` lets it go on, however late."""
        self._signal_session(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_session(signal.SIGCONT)

    def _signal_session(self, sign: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, sign)

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.popen.wait(STOP_S)

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def rss_bytes(self) -> int:
        """Resident memory of the process itself."""
        return rss_bytes(self.popen.pid)

    def story(self) -> str:
        """For failure messages."""
        return f"{tail(self.log)}\n{tail(self.errors)}"


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def kill_process(pid: int) -> None:
    """SIGKILL to one process, which may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int, module: str) -> list[int]:
    """Processes below `pid` whose command line names a module."""
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
        if module in command:
            found.append(int(child))
        found += children(int(child), module)
    return found


def wait_until(check: Callable[[], T | None], timeout_s: float, what: str, story: Callable[[], str] = str) -> T:
    """The first true value of `check`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = check()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}\n{story()}")
