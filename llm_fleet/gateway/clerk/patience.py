"""Try again where AWS refuses or is silent, so that one lost answer among thousands costs one call and no restart."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

AWS_ERRORS = (ClientError, BotoCoreError, HTTPError, OSError)
"""Whatever a call to AWS raises."""
TRIES = 6
FIRST_WAIT_S = 0.1
"""Doubles with each try: six tries take some 3 s, after the client's own three each."""

T = TypeVar("T")


def patiently(call: Callable[[], T]) -> T:
    """The result of a call that may be repeated.

    Raises:
        ClientError, BotoCoreError, HTTPError, OSError: what the last try raised.
    """
    for attempt in range(TRIES - 1):
        try:
            return call()
        except AWS_ERRORS:
            time.sleep(FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1))
    return call()
