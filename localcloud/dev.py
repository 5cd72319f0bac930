"""`llm-fleet dev`: a pattern's gateway, workers and small engines on this machine, until told to end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from types import FrameType

from llm_fleet.errors import InputError, Problem
from llm_fleet.json_log import VARIABLE as LOG_VARIABLE
from llm_fleet.json_log import JsonLog
from llm_fleet.planning import plan_fleet
from localcloud.bare_resources import make_resources
from localcloud.child import ROOT, LocalCloudError
from localcloud.cloud import LocalCloud
from localcloud.cpu_engine import MODEL
from localcloud.loopback_fleet import LoopbackFleet

CHECK_SECONDS = 0.5


def run(pattern: str, as_json: bool) -> int:
    """Serve until Ctrl-C or SIGTERM; the exit code. Base URL and key go to standard output, the rest to standard error.

    Raises:
        InputError: the pattern does not load, or make setup has not been run.
        KeyboardInterrupt: told to end before it served.
    """
    missing = [folder for folder in (".venv-cloud", ".venv-engine") if not (ROOT / folder / ".ready").exists()]
    if missing:
        raise InputError(Problem("llm-fleet dev", f"{', '.join(missing)} missing: run make setup"))
    plan = plan_fleet(pattern)
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.setdefault(LOG_VARIABLE, "text")
    log = JsonLog("dev", sys.stderr)
    try:
        log.event("starting", part="local cloud")
        with (
            LocalCloud(plan.region) as cloud,
            LoopbackFleet(cloud, make_resources(cloud, plan), sys.stderr.buffer) as fleet,
        ):
            log.event("starting", part="engines", model=MODEL)
            engines = fleet.start_engines()
            log.event("starting", part="workers")
            fleet.start_workers(engines)
            log.event("starting", part="gateway")
            fleet.start_gateway()
            api_key = fleet.make_key("dev")
            fleet.wait_for_first_answer(api_key)
            print(_as_json(fleet, api_key) if as_json else _text(fleet, api_key), flush=True)
            _serve(fleet)
            log.event("stopping")
    except LocalCloudError as error:
        print(f"llm-fleet dev: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _serve(fleet: LoopbackFleet) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            fleet.check()
            time.sleep(CHECK_SECONDS)


def _as_json(fleet: LoopbackFleet, api_key: str) -> str:
    return json.dumps({"base_url": fleet.base_url, "api_key": api_key})


def _text(fleet: LoopbackFleet, api_key: str) -> str:
    model = fleet.models()[0]
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello."}]})
    return f"""
Base URL  {fleet.base_url}
API key   {api_key}
Models    {", ".join(fleet.models())}; whatever the name, {MODEL} answers here

curl {fleet.base_url}/chat/completions -H 'Authorization: Bearer {api_key}' \\
  -H 'Content-Type: application/json' -d '{body}'

python3 - <<'PYTHON'  # needs: pip install openai
from openai import OpenAI
client = OpenAI(base_url="{fleet.base_url}", api_key="{api_key}")
answer = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Say hello."}}])
print(answer.choices[0].message.content)
PYTHON

Ctrl-C ends all of it. What the services log follows.
"""
