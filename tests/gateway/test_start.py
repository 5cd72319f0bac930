"""The gateway as a process: it starts, or it says at once what is wrong and what to do."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from llm_fleet.errors import InputError
from llm_fleet.gateway.__main__ import log_fault
from llm_fleet.gateway.settings import VARIABLE, ExchangeLimits, GatewaySettings, parse_settings
from llm_fleet.json_log import JsonLog
from localcloud.cloud import LocalCloud

POOL: dict[str, Any] = {
    "queue_url": "http://localhost/000000000000/missing-queue",
    "dead_letter_queue_url": "http://localhost/000000000000/missing-dead-letters",
    "group_name": "group",
    "fallback": [],
    "served_model_name": "small",
    "max_model_len_tokens": 4096,
    "expected_output_tokens": 256,
    "engine_keep_alive_seconds": 620,
    "units_per_instance": 1,
    "max_units": 4,
    "launch_hook_seconds": 900,
    "usd_per_million_output_tokens": 1.0,
}
DOCUMENT: dict[str, Any] = {
    "version": 2,
    "pattern": "test",
    "region": "us-east-1",
    "metrics_namespace": "LlmFleet",
    "registry_table": "missing-registry",
    "batch_table": "missing-batches",
    "keys_table": "missing-keys",
    "batch_files_bucket": "missing-files",
    "batch_results_bucket": "missing-results",
    "routes": {"cost_efficient": "cost_efficient"},
    "pools": {"cost_efficient": POOL},
}


def start(environment: dict[str, str], document: object) -> subprocess.CompletedProcess[str]:
    settings = {} if document is None else {VARIABLE: document if isinstance(document, str) else json.dumps(document)}
    command = [sys.executable, "-m", "llm_fleet.gateway", "--host", "127.0.0.1", "--port", "0"]
    return subprocess.run(command, env=environment | settings, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "no settings document; the stack hands it to its tasks; on a laptop start `llm-fleet dev`"),
        ("{", "Invalid JSON"),
        (DOCUMENT | {"version": 1}, "version: this image reads version 2"),
        (
            DOCUMENT | {"routes": {"batch_processing": "elsewhere"}},
            "routes.batch_processing names the pool 'elsewhere'",
        ),
        (DOCUMENT | {"pools": {}}, "pools"),
        (DOCUMENT | {"colour": "red"}, "colour"),
        ({name: value for name, value in DOCUMENT.items() if name != "keys_table"}, "keys_table: Field required"),
    ],
    ids=["missing", "no JSON", "another version", "contradictory", "no pool", "unknown key", "a key lacks"],
)
def test_bad_settings_end_it_at_once_with_the_key_and_the_fix(
    shared_cloud: LocalCloud, document: object, said: str
) -> None:
    ended = start(shared_cloud.environment(), document)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_everything_that_is_missing_is_named_with_the_action_that_needs_it(shared_cloud: LocalCloud) -> None:
    ended = start(shared_cloud.environment(), DOCUMENT)
    assert ended.returncode == 3
    for name, action in (
        ("keys table missing-keys", "dynamodb:Scan"),
        ("registry table missing-registry", "dynamodb:Query"),
        ("batch table missing-batches", "dynamodb:GetItem"),
        ("bucket missing-files", "s3:GetObject"),
        ("bucket missing-results", "s3:GetObject"),
        ("dead-letter queue", "sqs:GetQueueAttributes"),
    ):
        assert any(line.startswith(name) and action in line for line in ended.stderr.splitlines()), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_good_document_is_read_as_it_was_written() -> None:
    assert parse_settings(json.dumps(DOCUMENT)) == GatewaySettings.model_validate(DOCUMENT)


def test_an_error_that_nobody_caught_is_a_line_of_the_log() -> None:
    output = io.StringIO()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(partial(log_fault, JsonLog("gateway", output)))
        loop.call_soon(partial(int, "no number"))
        await asyncio.sleep(0)

    asyncio.run(run())
    [line] = [json.loads(line) for line in output.getvalue().splitlines()]
    assert (line["event"], line["service"]) == ("fault", "gateway")
    assert "ValueError: invalid literal" in line["traceback"]


def test_times_towards_engines_are_the_defaults_where_the_document_names_none() -> None:
    assert parse_settings(json.dumps(DOCUMENT)).exchange == ExchangeLimits()
    named = parse_settings(json.dumps(DOCUMENT | {"exchange": {"head_s": 5}})).exchange
    assert (named.head_s, named.silence_s) == (5, ExchangeLimits().silence_s)
    with pytest.raises(InputError, match=r"exchange\.head_s"):
        parse_settings(json.dumps(DOCUMENT | {"exchange": {"head_s": 0}}))
