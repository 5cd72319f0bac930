"""The tools of `bench/gateway` count right: what they say was answered was answered, and a cut answer is an error."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from bench.gateway_load import process_tree, tools
from bench.gateway_load.measures import Measure, run
from bench.gateway_load.tools import BenchError
from localcloud.cloud import free_port

KEY = "sk-none"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the tools are written in C, and there is no gcc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tools are built."""
    folder = tmp_path_factory.mktemp("tools")
    tools.build(folder)
    return folder


@pytest.fixture(scope="module")
def upstream(folder: Path) -> Iterator[int]:
    """The upstream's port."""
    port = free_port()
    with tools.upstream(folder, port):
        yield port


@contextlib.contextmanager
def server_that_says(answer: bytes) -> Generator[int]:
    """A port where every connection gets this and is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        if connection.recv(1 << 16):
                            connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_closed_loop_gets_an_answer_to_every_request(folder: Path, upstream: int) -> None:
    load = tools.run_load(folder, upstream, tools.chat_request(upstream, KEY), connections=4, seconds=0.2)
    assert load.requests > 4
    assert 0 < load.p50_us <= load.p99_us


def test_an_open_loop_sends_as_many_requests_as_its_rate_says(folder: Path, upstream: int) -> None:
    load = tools.run_load(folder, upstream, tools.chat_request(upstream, KEY), connections=4, seconds=0.5, rate=200)
    assert load.requests == 100


def test_every_event_of_a_stream_is_counted_and_the_closing_one(folder: Path, upstream: int) -> None:
    request = tools.chat_request(upstream, KEY, "pace-1-chunks-10")
    load = tools.run_load(folder, upstream, request, connections=3, seconds=0.1)
    assert load.events == load.requests * 11


def test_the_first_chunk_of_a_stream_comes_before_its_pace_begins(folder: Path, upstream: int) -> None:
    request = tools.chat_request(upstream, KEY, "pace-500-chunks-2")
    load = tools.run_load(folder, upstream, request, connections=1, seconds=0.01)
    assert load.first_p50_us < 400_000 < load.p50_us


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", r"[1-9]\d* answers failed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", r"[1-9]\d* answers failed"),
        (b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", r"[1-9]\d* were refused"),
    ],
    ids=["cut by length", "cut between chunks", "refused"],
)
def test_an_answer_that_is_cut_or_refused_fails_the_run(folder: Path, answer: bytes, complaint: str) -> None:
    with server_that_says(answer) as port, pytest.raises(BenchError, match=complaint):
        tools.run_load(folder, port, tools.chat_request(port, KEY), connections=1, seconds=0.1, rate=20)


def test_a_run_knows_the_cpu_time_and_memory_of_the_process_behind_the_port(folder: Path) -> None:
    port = free_port()
    with tools.upstream(folder, port) as pid:
        done = run(folder, Measure("plain", 4, 0.5), port, pid, KEY)
    assert 0 < done.cpu_us_per_request < 10_000
    assert done.peak_rss_bytes > 100_000


def test_cpu_time_counts_children_that_have_ended() -> None:
    before_s = process_tree.cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    assert process_tree.cpu_s(os.getpid()) - before_s >= 0.15
