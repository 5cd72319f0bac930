"""app.py as a process: a mistake is told before the CDK is imported, with exit code 2; through the CDK CLI with
its exit code 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_app(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python app.py` in an empty working folder, with aws_cdk made impossible to import."""
    (folder / "aws_cdk.py").write_text("raise SystemExit('aws_cdk was imported')")
    environment = {**os.environ, "PYTHONPATH": str(folder), "CDK_OUTDIR": str(folder / "cdk.out")}
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-c", "model=Qwen/Qwen3-8B"), "needs -c pattern="),
        (("-c", "purchase=spot"), "needs -c pattern="),
        (("-c", "pattern=startup-mpv"), "did you mean startup-mvp?"),
        (("-c", "patern=startup-mvp"), "pattern"),
        (("-c", "pattern="), "needs a value"),
        (("-c", "pattern=startup-mvp", "-c", "precision=fp17"), "did you mean fp16?"),
        (("-c", "pattern=startup-mvp", "-c", "max_instances=none"), "1 to 1000"),
        (("-c", "pattern=startup-mvp", "-c", "nag=maybe"), "on"),
        (("-c", "pattern=no/such.yaml"), "cannot be read"),
        (("--pattern", "startup-mvp"), "-c key=value"),
        (("-c", "pattern=enterprise-production", "-c", "instance_families=p3"), "retired"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_ends_app_py_with_exit_code_2_before_the_cdk_is_imported(
    words: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = run_app(tmp_path, *words)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "cdk.out").exists(), "nothing is half-written"


def test_through_the_cdk_cli_the_message_is_ours_and_the_exit_code_its_own(tmp_path: Path) -> None:
    environment = {**os.environ, "CDK_HOME": str(tmp_path), "CDK_DISABLE_VERSION_CHECK": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = [ROOT / "node_modules/.bin/cdk", "synth", "-c", "model=Qwen/Qwen3-8B", "--output", tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs -c pattern=" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_llm_fleet_command_ends_with_exit_code_2_as_a_process(tmp_path: Path) -> None:
    command = [Path(sys.executable).parent / "llm-fleet", "plan", "startup-mvp", "-c", "region=us-esat-1", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean us-east-1?" in done.stderr


def test_a_plan_written_to_a_closed_pipe_ends_quietly() -> None:
    command = f"{Path(sys.executable).parent}/llm-fleet plan startup-mvp --json --all | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == '{\n  "patte'
