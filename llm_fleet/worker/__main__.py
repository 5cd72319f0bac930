"""Entry of the worker's process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from llm_fleet.errors import InputError, Problem
from llm_fleet.json_log import JsonLog
from llm_fleet.start_checks import NotThereError
from llm_fleet.worker.identity import Identity, read_identity
from llm_fleet.worker.imds import Imds, ImdsError
from llm_fleet.worker.settings import DEFAULT_PATH, load_settings
from llm_fleet.worker.worker import Worker


def main(words: list[str] | None = None) -> int:
    """Run until told to leave; returns the exit code."""
    given = _parse(words)
    signals: list[int] = []
    # Before anything that takes time: process 1 of a container does not even see a signal that it has no handler for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    try:
        settings = load_settings(given.settings)
        imds, identity = _identity(given)
        log = JsonLog("worker", pool=settings.pool, worker_id=identity.worker_id)
        worker = Worker(settings, identity, imds, log, lambda: bool(signals))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except (NotThereError, ImdsError) as error:
        print(error, file=sys.stderr)
        return 3

    threading.excepthook = lambda failed: _crash(log, failed)
    worker.run()
    return 0


def _crash(log: JsonLog, failed: threading.ExceptHookArgs) -> None:
    """End the process: without one of its threads a worker would look alive and do nothing, while a new one loses
    nothing.
    """
    text = "".join(traceback.format_exception(failed.exc_type, failed.exc_value, failed.exc_traceback))
    log.event("crash", thread=failed.thread.name if failed.thread else "", traceback=text)
    os._exit(1)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llm_fleet.worker", description="The queue worker of an instance.")
    parser.add_argument("--settings", type=Path, default=Path(DEFAULT_PATH), help="default: %(default)s")
    laptop = parser.add_argument_group("outside of EC2, all three and no metadata service is asked")
    laptop.add_argument("--worker-id")
    laptop.add_argument("--host", help="where the engines listen")
    laptop.add_argument("--instance-type", help="one that the settings know")
    return parser.parse_args(words)


def _identity(given: argparse.Namespace) -> tuple[Imds | None, Identity]:
    flags = (given.worker_id, given.host, given.instance_type)
    if all(flags):
        return None, Identity(given.worker_id, given.host, given.instance_type, None)
    if any(flags):
        raise InputError(Problem("--worker-id, --host, --instance-type", "give all three, or none on an EC2 instance"))
    imds = Imds()
    return imds, read_identity(imds)


if __name__ == "__main__":
    sys.exit(main())
