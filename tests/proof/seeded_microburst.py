"""Starts microburst with seeded dice: `.venv-cloud/bin/python seeded_microburst.py SEED [microburst's arguments]`.

It runs in the local cloud's environment, where microburst is installed. One thing is added: an answer that shall be cut
after 0 bytes is cut before its head too, since many of S3's answers have no body to be cut in.
"""

from __future__ import annotations

import random
import sys
from importlib import import_module
from typing import Any

forward: Any = import_module("microburst.forward")
web: Any = import_module("aiohttp.web")
relay_answer = forward._stream_to_client


async def relay_or_cut(request: Any, status: int, headers: Any, mutator: Any, chunks: Any) -> Any:
    if mutator is not None and mutator.abort_bytes == 0:
        request.transport.abort()
        return web.Response()
    return await relay_answer(request, status, headers, mutator, chunks)


if __name__ == "__main__":
    random.seed(int(sys.argv.pop(1)))
    forward._stream_to_client = relay_or_cut
    import_module("microburst.cli").main()
