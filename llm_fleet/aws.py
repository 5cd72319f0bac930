"""boto3 clients of gateway and worker: time-outs at every call, retries that back off, nothing read from a profile."""

from __future__ import annotations

from typing import Any, cast

import boto3
from botocore.config import Config

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
LONG_POLL_S = 20
"""SQS's longest; the read time-out of its client is longer."""


def client(service: str, region: str, *, read_timeout_s: float = READ_TIMEOUT_S, connections: int = 10) -> Any:
    """A client for a service; safe to use from several threads. Endpoint and credentials come from the environment.

    Calls raise botocore's ClientError (refused) or BotoCoreError (no answer), after three attempts.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s + (LONG_POLL_S if service == "sqs" else 0),
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=connections,
        tcp_keepalive=True,
    )
    make = cast("Any", boto3.client)  # pyright: ignore[reportUnknownMemberType] the service is known when it runs
    return make(service, region_name=region, config=config)
