"""Entry of the gateway's process: python -m llm_fleet.gateway [--host ADDRESS] [--port PORT] [--no-clerk]."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import secrets
import signal
import sys
from functools import partial
from typing import Any

import uvloop
from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.aws import client
from llm_fleet.cloudwatch import Publisher
from llm_fleet.errors import InputError
from llm_fleet.gateway import batches_api
from llm_fleet.gateway.app import Gateway, Parts
from llm_fleet.gateway.balancing import Balancer
from llm_fleet.gateway.clerk_process import ClerkProcess
from llm_fleet.gateway.key_store import KeyStore
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.membership import Membership
from llm_fleet.gateway.meters import Meters
from llm_fleet.gateway.settings import VARIABLE, GatewaySettings, parse_settings
from llm_fleet.gateway.start_checks import check
from llm_fleet.gateway.waiting_room import WaitingRoom
from llm_fleet.gateway.waking import Waker
from llm_fleet.json_log import JsonLog
from llm_fleet.registry import Registry
from llm_fleet.start_checks import NotThereError

BAD_SETTINGS = 2
NOT_THERE = 3
"""Exit codes."""
DRAIN_S = 110.0
"""For what runs when the gateway is told to end: the task's stop time-out (120 s) less what its own end takes."""
GC_THRESHOLD = (20_000, 20, 50)
"""Requests make few cycles; the usual threshold would look for them dozens of times a second."""


def main(words: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    given = _parse(words)
    try:
        settings = parse_settings(os.environ.get(VARIABLE))
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_SETTINGS
    try:
        uvloop.run(_run(settings, given.host, given.port, not given.no_clerk))
    except NotThereError as error:
        print(error, file=sys.stderr)
        return NOT_THERE
    return 0


async def _run(settings: GatewaySettings, host: str, port: int, with_clerk: bool) -> None:
    log = JsonLog("gateway")
    asyncio.get_running_loop().set_exception_handler(partial(log_fault, log))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    region = settings.region
    dynamodb, sqs = client("dynamodb", region), client("sqs", region)
    registry = Registry(dynamodb, settings.registry_table)
    keys = KeyStore(dynamodb, settings.keys_table, log)
    await asyncio.to_thread(check, settings, keys, registry, sqs, client("s3", region), dynamodb)
    publisher = Publisher(client("cloudwatch", region), settings.metrics_namespace, settings.pattern)
    balancer, limits = Balancer(), Limits()
    room = WaitingRoom(balancer)
    waker = Waker(client("autoscaling", region), settings.pools, log)
    meters = Meters(settings.pools, balancer, room, publisher, log)
    membership = Membership(
        settings, secrets.token_hex(8), registry, sqs, balancer, room, limits, waker, publisher, log
    )
    try:
        await membership.read_workers()  # before the first request: else it would find every pool empty
    except (ClientError, BotoCoreError) as error:
        raise NotThereError(f"registry table {settings.registry_table}: its workers cannot be read: {error}") from error
    parts = Parts(keys, limits, balancer, room, waker, meters, log, batches_api.routes(settings))
    gateway = Gateway(settings, parts)
    clerk = ClerkProcess(log)
    _make_room()
    membership.start()
    refresh = asyncio.create_task(keys.run(), name="keys")
    if with_clerk:
        clerk.start()
    log.event("listening", host=host, port=await gateway.listen(host, port), pools=list(settings.pools))
    await stop.wait()
    log.event("draining")
    await asyncio.gather(gateway.drain(DRAIN_S), clerk.stop())
    refresh.cancel()
    await membership.stop()
    await asyncio.to_thread(waker.stop)
    meters.flush()
    log.event("ended")


def log_fault(log: JsonLog, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught: of a callback, a protocol, a task that nobody waited for."""
    what = str(context.get("message", ""))
    log.fault(context.get("exception") or RuntimeError(what), message=what)


def _make_room() -> None:
    """As many open files as the system allows, and a garbage collector that leaves alone what lives for ever."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m llm_fleet.gateway", description="The router in front of the pools."
    )
    parser.add_argument("--host", default="0.0.0.0", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s; 0: any, named in the log")
    parser.add_argument("--no-clerk", action="store_true", help="do not start the batch clerk beside it")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
