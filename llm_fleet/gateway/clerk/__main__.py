"""The clerk's process: python -m llm_fleet.gateway.clerk, started by the gateway with its own environment."""

from __future__ import annotations

import os
import signal
import sys
import threading

from llm_fleet.errors import InputError
from llm_fleet.gateway.clerk.clerk import Clerk
from llm_fleet.gateway.clerk.pace import Pace
from llm_fleet.gateway.settings import VARIABLE, parse_settings
from llm_fleet.json_log import JsonLog

BAD_SETTINGS = 2
"""Exit code."""
LOOK_AT_PARENT_S = 1


def main() -> None:
    """Run until SIGTERM, SIGINT or the end of the parent process."""
    try:
        settings = parse_settings(os.environ.get(VARIABLE))
        pace = Pace.from_environment(os.environ)
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_SETTINGS)
    log = JsonLog("clerk")
    clerk = Clerk(settings, pace, log)

    def stop(_sign: int, _frame: object) -> None:
        clerk.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=_end_with_parent, args=(clerk.stop, os.getppid()), daemon=True).start()
    clerk.run()
    # At once: threads may be in calls to AWS that take their time-outs, and nothing of theirs counts any more.
    sys.stdout.flush()
    os._exit(0)


def _end_with_parent(stop: threading.Event, parent: int) -> None:
    while not stop.wait(LOOK_AT_PARENT_S):
        if os.getppid() != parent:
            stop.set()


if __name__ == "__main__":
    main()
