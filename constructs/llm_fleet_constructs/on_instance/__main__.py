"""Entry of the systemd units. A fatal error ends with one line in the journal and exit status 1."""

from __future__ import annotations

import sys
from pathlib import Path

from .aws import Aws
from .engine import run_engine
from .imds import Imds
from .leave import watch
from .ready import run_ready
from .settings import SETTINGS_PATH, FatalError, load_settings
from .weights import fetch_all, pull_images


def main(arguments: list[str]) -> int:
    """Run one step; returns the exit status."""
    try:
        settings = load_settings(Path(SETTINGS_PATH))
        imds, aws = Imds(), Aws(settings.region)
        step = arguments[0] if arguments else ""
        if step == "image":
            pull_images(settings, aws)
        elif step == "weights":
            fetch_all(settings, aws, imds)
        elif step == "engine" and len(arguments) == 2:
            run_engine(settings, imds, int(arguments[1]))
        elif step == "ready":
            run_ready(settings, aws, imds)
        elif step == "leave":
            watch(settings, aws, imds)
        elif step == "unhealthy":
            aws.mark_unhealthy(imds.need("instance-id"))
        else:
            steps = "image, weights, engine N, ready, leave or unhealthy"
            raise FatalError(f"unknown step {' '.join(arguments)!r}: {steps}")
    except FatalError as error:
        print(f"fatal: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
