"""The instance metadata service, version 2 only. An answer of 404 is "nothing there"; no answer is an error, never
"nothing".
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request

ADDRESS = "http://169.254.169.254"
TOKEN_SECONDS = 21600


class Imds:
    """Reads metadata with a token that is renewed before it ends."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address
        self._token = ""
        self._token_until = 0.0

    def get(self, path: str) -> str | None:
        """The text at /latest/meta-data/`path`, or None where there is none.

        Raises:
            OSError: the service did not answer, or refused.
        """
        request = urllib.request.Request(
            f"{self._address}/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": self._current_token()}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._token_until = 0.0
            if error.code == 404:
                return None
            raise

    def need(self, path: str) -> str:
        """Like get, where the text must exist.

        Raises:
            OSError: it does not.
        """
        text = self.get(path)
        if text is None:
            raise OSError(f"the metadata service has no {path}")
        return text

    def _current_token(self) -> str:
        if time.monotonic() > self._token_until:
            request = urllib.request.Request(
                f"{self._address}/latest/api/token",
                method="PUT",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                self._token = answer.read().decode()
            self._token_until = time.monotonic() + TOKEN_SECONDS - 60
        return self._token
