"""Builds and runs the upstream and the load, both in C."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LOAD_CORE = 0
"""Upstream, load and everything else; the proxies have PROXY_CORE to themselves."""
PROXY_CORE = 1
MODEL = "bench"


class BenchError(Exception):
    """A tool that is missing or a run that failed: no figure of it would mean anything."""


@dataclass(frozen=True)
class Load:
    """One run of the load. Latencies in microseconds, from when a request was due."""

    requests: int
    events: int
    """Server-sent events, the closing one of each stream among them."""
    elapsed_s: float
    p50_us: float
    p99_us: float
    first_p50_us: float
    """Of an answer's first byte of body: the time to first token of a stream."""
    first_p99_us: float


def on_core(core: int, command: Sequence[str | Path]) -> list[str]:
    """The command, held to one core; to any, where the machine has not so many."""
    words = [str(word) for word in command]
    return ["taskset", "-c", str(core), *words] if (os.cpu_count() or 1) > core else words


def build(folder: Path) -> None:
    """Compile both into the folder.

    Raises:
        BenchError: there is no compiler, or it refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("upstream", "load"):
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(folder / name), str(HERE / f"{name}.c")]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise BenchError("gcc is missing: install it (on Debian: apt-get install gcc libc6-dev)") from error
        if done.returncode:
            raise BenchError(f"{' '.join(command)}\n{done.stderr}")
    allow_connections()


def allow_connections() -> None:
    """Raise the limit of open files to what the system allows; processes started later have it too."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def upstream(folder: Path, port: int) -> Generator[int]:
    """Run the engine's stand-in on a loopback port; gives its process id."""
    process = subprocess.Popen(on_core(LOAD_CORE, [folder / "upstream", str(port)]), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"listening\n":
            raise BenchError(f"the upstream does not listen on port {port}")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def chat_request(port: int, key: str, stream: str = "") -> bytes:
    """A chat request of about 1 KB. `stream` says how the upstream streams, such as pace-10-chunks-100."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "word " * 150},
        ],
        "max_tokens": 100,
        "temperature": 0.7,
    }
    if stream:
        body |= {"stream": True, "user": stream}
    text = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


def run_load(folder: Path, port: int, request: bytes, connections: int, seconds: float, rate: float = 0) -> Load:
    """Send the request over and over: closed loop, or open loop at `rate` a second.

    Raises:
        BenchError: an answer was missing, cut or not 200.
    """
    file = folder / f"request-{port}"
    file.write_bytes(request)
    words = [str(folder / "load"), str(port), str(file), str(connections), str(seconds), *([str(rate)] if rate else [])]
    done = subprocess.run(on_core(LOAD_CORE, words), capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"load on port {port}: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    if found["errors"] or found["refused"]:
        raise BenchError(f"load on port {port}: {found['errors']} answers failed and {found['refused']} were refused")
    return Load(
        requests=found["requests"],
        events=found["events"],
        elapsed_s=found["elapsed_s"],
        p50_us=found["whole_p50_us"],
        p99_us=found["whole_p99_us"],
        first_p50_us=found["first_p50_us"],
        first_p99_us=found["first_p99_us"],
    )
