"""The peers: each pinned, installed into a folder of its own, and started as its makers' pages say."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gateway_load.tools import MODEL, PROXY_CORE, BenchError, on_core
from localcloud.cloud import free_port, without_aws_settings

VLLM_ROUTER = "0.1.17"
LITELLM = "1.108.7"
START_S = 90
INSTALL_S = 900


@dataclass(frozen=True)
class Proxy:
    """One that runs. `pid` is the top of its process tree."""

    name: str
    version: str
    port: int
    pid: int
    key: str


@contextlib.contextmanager
def running(
    name: str,
    version: str,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    port: int,
    key: str,
) -> Generator[Proxy]:
    """Start a server on the proxies' core, its output in FOLDER/NAME.log; stop it afterwards.

    Raises:
        BenchError: it does not answer within START_S.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            on_core(PROXY_CORE, command),
            env={**without_aws_settings(os.environ), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_it_answers(name, process, port, key, log)
            yield Proxy(name, version, port, process.pid, key)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_answers(name: str, process: subprocess.Popen[bytes], port: int, key: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), opener.open(request, timeout=2):
            return
        time.sleep(0.1)
    raise BenchError(f"{name} does not answer on port {port}: see {log}")


@contextlib.contextmanager
def nginx(folder: Path, upstream_port: int) -> Generator[Proxy]:
    """One worker, kept-alive connections to the upstream, no buffering of answers, no access log."""
    program = _nginx()
    port, home = free_port(), folder / "nginx"
    home.mkdir(exist_ok=True)
    (home / "nginx.conf").write_text(f"""
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {home}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  keepalive_requests 100000000;
  upstream engine {{ server 127.0.0.1:{upstream_port}; keepalive 2048; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600;
    }}
  }}
}}
""")
    found = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    with running(
        "nginx", found, [program, "-p", home, "-c", home / "nginx.conf"], {}, folder, port, "sk-none"
    ) as proxy:
        yield proxy


def _nginx() -> str:
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
    if found := shutil.which("nginx", path=path):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", "nginx"]):
            subprocess.run(["apt-get", *words], env=environment, capture_output=True, timeout=INSTALL_S)
    if found := shutil.which("nginx", path=path):
        return found
    raise BenchError("nginx is not installed: apt-get install nginx")


@contextlib.contextmanager
def vllm_router(folder: Path, upstream_port: int) -> Generator[Proxy]:
    """vllm-router (Rust), policy round_robin."""
    python = _virtual_environment(folder / "vllm-router", f"vllm-router=={VLLM_ROUTER}")
    port = free_port()
    command = [
        *(python, "-m", "vllm_router.launch_router", "--host", "127.0.0.1", "--port", str(port)),
        *("--worker-urls", f"http://127.0.0.1:{upstream_port}", "--policy", "round_robin"),
        *("--prometheus-port", str(free_port()), "--log-level", "error"),
    ]
    with running("vllm_router", VLLM_ROUTER, command, {}, folder, port, "sk-none") as proxy:
        yield proxy


@contextlib.contextmanager
def litellm(folder: Path, upstream_port: int) -> Generator[Proxy]:
    """LiteLLM's proxy: one worker, production mode, errors only in the log, no database."""
    python = _virtual_environment(folder / "litellm", f"litellm[proxy]=={LITELLM}")
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    (folder / "litellm.yaml").write_text(f"""
model_list:
  - model_name: {MODEL}
    litellm_params: {{model: openai/{MODEL}, api_base: "http://127.0.0.1:{upstream_port}/v1", api_key: sk-none}}
""")
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": key,
        "LITELLM_TELEMETRY": "False",
    }
    command = [
        *(python.parent / "litellm", "--config", folder / "litellm.yaml", "--host", "127.0.0.1"),
        *("--port", str(port), "--num_workers", "1"),
    ]
    with running("litellm", LITELLM, command, environment, folder, port, key) as proxy:
        yield proxy


def _virtual_environment(folder: Path, package: str) -> Path:
    """Make it once; gives its Python."""
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists() or stamp.read_text() != package:
        sys.stderr.write(f"installing {package} into {folder}\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        words = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", package]
        done = subprocess.run(words, capture_output=True, text=True, timeout=INSTALL_S)
        if done.returncode:
            raise BenchError(f"{package} does not install: {done.stderr.strip()[-300:]}")
        stamp.write_text(package)
    return python
