"""`llm-fleet dev` as its user has it: a process that serves, says how to reach it, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from openai import AuthenticationError, OpenAI

from llm_fleet.cli import main
from localcloud import dev
from localcloud.child import ROOT
from localcloud.demo_requests import batch, open_client

COMMAND = [Path(sys.executable).parent / "llm-fleet", "dev"]
END_S = 60
"""A guard, no measure: the machine may be busy."""


@contextmanager
def started(*words: str, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process; killed at the latest when the block ends."""
    process = subprocess.Popen([*COMMAND, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's process writes its standard error."""
    return tmp_path_factory.mktemp("dev") / "stderr"


@pytest.fixture(scope="module")
def serving(errors: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """`llm-fleet dev --json` that has printed its line, and the line."""
    with errors.open("wb") as file, started("--json", errors=file) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, errors.read_text()
        yield process, json.loads(line)


@pytest.fixture
def client(serving: tuple[subprocess.Popen[bytes], dict[str, str]]) -> Iterator[OpenAI]:
    with open_client(serving[1]["base_url"], serving[1]["api_key"]) as opened:
        yield opened


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def running(pids: list[int]) -> list[str]:
    """Command lines of those that still run."""
    lines: list[str] = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        except FileNotFoundError:
            continue
    return lines


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_S
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)


def test_the_line_holds_base_url_and_key(serving: tuple[subprocess.Popen[bytes], dict[str, str]]) -> None:
    line = serving[1]
    assert set(line) == {"base_url", "api_key"}
    assert line["base_url"].startswith("http://127.0.0.1:")
    assert line["base_url"].endswith("/v1")


def test_the_first_request_succeeds(client: OpenAI) -> None:
    (model,) = client.models.list().data
    answer = client.chat.completions.create(
        model=model.id, messages=[{"role": "user", "content": "Say hello."}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 8


def test_a_batch_completes(client: OpenAI) -> None:
    (model,) = client.models.list().data
    answers = batch(client, model.id)
    assert (answers.status, answers.failed) == ("completed", 0)
    assert [custom_id for custom_id, _ in answers.lines] == ["line-1", "line-2", "line-3"]


def test_another_key_is_refused(serving: tuple[subprocess.Popen[bytes], dict[str, str]]) -> None:
    with open_client(serving[1]["base_url"], "llmf-0123456789ab-wrong") as opened, pytest.raises(AuthenticationError):
        opened.models.list()


def test_the_services_log_readable_lines_on_standard_error(
    serving: tuple[subprocess.Popen[bytes], dict[str, str]], errors: Path
) -> None:
    text = errors.read_text()
    assert " worker   serving " in text
    assert " gateway  listening " in text
    assert serving[1]["api_key"] not in text


def test_sigterm_ends_it_and_all_that_it_started(serving: tuple[subprocess.Popen[bytes], dict[str, str]]) -> None:
    process, _ = serving
    started_by_it = descendants(process.pid)
    assert len(started_by_it) >= 4, "cloud, engine, worker, gateway"
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_S) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b"", "nothing but the one line"
    assert running(started_by_it) == []


def test_killed_it_takes_all_that_it_started_along(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb") as file, started("--json", errors=file) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        started_by_it = descendants(process.pid)
        process.kill()
        wait_until(lambda: not running(started_by_it))
        assert running(started_by_it) == []


def test_interrupted_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    errors = tmp_path / "stderr"
    with errors.open("wb") as file, started("--json", errors=file) as process:
        wait_until(lambda: "engines" in errors.read_text())
        started_by_it = descendants(process.pid)
        assert started_by_it
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 130
        wait_until(lambda: not running(started_by_it))
        assert running(started_by_it) == []
        assert "Traceback" not in errors.read_text()


def test_without_setup_it_says_in_one_line_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    assert main(("dev",)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "llm-fleet dev: .venv-cloud, .venv-engine missing: run make setup\n"
