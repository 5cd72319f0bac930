"""Start and stop a small real engine on CPU: `with CpuEngine("my-model") as engine:` gives an address on loopback."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from localcloud.child import Server
from localcloud.cloud import answers, free_port, without_aws_settings

MODEL = "SmolLM2-135M-Instruct"
"""What really answers, whatever name it serves it by."""
SLOTS = 4
"""Requests that it runs at once."""
CONTEXT_TOKENS = 4096
"""Of one request, prompt and completion; llama.cpp keeps 360 MiB for 4 of them."""


class CpuEngine(Server):
    """llama.cpp's HTTP server with SmolLM2-135M, in a process of its own; it speaks OpenAI's API without keys."""

    def __init__(self, served_model_name: str, log: Path | IO[bytes]) -> None:
        super().__init__("the engine", ".venv-engine", log)
        self.served_model_name = served_model_name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def arguments(self) -> list[str]:
        """Of its Python."""
        words = ["-m", "localcloud.engine", "--port", str(self.port), "--alias", self.served_model_name]
        return [*words, "--slots", str(SLOTS), "--context", str(CONTEXT_TOKENS)]

    def environment_of_process(self) -> Mapping[str, str]:
        """Nothing of AWS."""
        return without_aws_settings(os.environ)

    def ready(self) -> bool:
        """Whether its model is loaded."""
        return answers(f"{self.url}/health")
