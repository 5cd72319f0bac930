"""Start and stop a small real engine on CPU: `with CpuEngine("my-model") as engine:` gives an address on loopback."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO

from localcloud.child import ROOT, Child, LocalCloudError
from localcloud.cloud import answers, free_port, without_aws_settings

MODEL = "SmolLM2-135M-Instruct"
"""What really answers, whatever name it serves it by."""
SLOTS = 4
"""Requests that it runs at once."""
CONTEXT_TOKENS = 4096
"""Of one request, prompt and completion; llama.cpp keeps 360 MiB for 4 of them."""
START_SECONDS = 60


class CpuEngine:
    """llama.cpp's HTTP server with SmolLM2-135M, in a process of its own; it speaks OpenAI's API without keys."""

    def __init__(self, served_model_name: str, log: Path | IO[bytes]) -> None:
        self.served_model_name = served_model_name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._child: Child | None = None

    def start(self) -> None:
        """Start the process and wait until its model is loaded. `with` does this unless it was done before.

        Raises:
            LocalCloudError: it is not installed, ended, or stayed silent.
        """
        python = ROOT / ".venv-engine" / "bin" / "python"
        if not python.exists():
            raise LocalCloudError(f"{python.relative_to(ROOT)} is missing: run make setup")
        words = ["--port", str(self.port), "--alias", self.served_model_name]
        words += ["--slots", str(SLOTS), "--context", str(CONTEXT_TOKENS)]
        command = [python, "-m", "localcloud.engine", *words]
        self._child = Child("the engine", command, without_aws_settings(os.environ), self._log)
        try:
            self._child.wait_until(lambda: answers(f"{self.url}/health"), START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the process. Stopping twice is no error."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def __enter__(self) -> CpuEngine:
        if self._child is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
