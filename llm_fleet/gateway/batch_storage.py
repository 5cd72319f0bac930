"""Where the endpoints for files and batches keep things, reached from the event loop without stopping it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.aws import client
from llm_fleet.batches.batch_table import BatchTable
from llm_fleet.batches.file_objects import FileObjects
from llm_fleet.batches.file_table import FileTable
from llm_fleet.batches.table import Table
from llm_fleet.gateway.errors import ApiError, retry_after
from llm_fleet.gateway.settings import GatewaySettings

THREADS = 8
"""Of their own, so that slow storage takes no thread from the rest of the gateway."""
RETRY_AFTER_S = 5

P = ParamSpec("P")
T = TypeVar("T")


class BatchStorage:
    """The tables and the bucket, and threads to call them in."""

    def __init__(self, settings: GatewaySettings) -> None:
        table = Table(client("dynamodb", settings.region, connections=THREADS), settings.batch_table)
        self.files = FileTable(table)
        self.batches = BatchTable(table)
        s3 = client("s3", settings.region, connections=THREADS)
        self.objects = FileObjects(s3, settings.batch_files_bucket)
        self._threads = ThreadPoolExecutor(THREADS, "batch-storage")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that may wait for AWS.

        Raises:
            ApiError: 503 where AWS refused or did not answer; whatever else the call raises.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))
        except (BotoCoreError, ClientError) as error:
            raise ApiError(
                503,
                "The storage of files and batches does not answer at the moment. Please try again.",
                "storage_unavailable",
                headers=retry_after(RETRY_AFTER_S),
            ) from error

    def start(self, call: Callable[[], None]) -> None:
        """Begin a call that nobody waits for."""
        self._threads.submit(call)
