"""The instance metadata service, version 2 only. An answer of 404 is "nothing there"; no answer is an error, never
"nothing".
"""

from __future__ import annotations

import http.client
import os
from urllib.parse import urlsplit

ADDRESS = "http://169.254.169.254"
VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""Environment variable that names another address; botocore knows it too."""
TOKEN_TTL_S = 21600
TIMEOUT_S = 5


class ImdsError(Exception):
    """The service did not answer, or refused."""


class Imds:
    """Reads metadata. For one thread."""

    def __init__(self, address: str | None = None) -> None:
        self.address = address or os.environ.get(VARIABLE) or ADDRESS
        self._token = ""

    def get(self, path: str) -> str | None:
        """The text at /latest/meta-data/`path`, or None where there is none.

        Raises:
            ImdsError: no answer, or a refusal.
        """
        status, text = self._read(path)
        if status == 401:  # the token has ended
            self._token = ""
            status, text = self._read(path)
        if status == 404:
            return None
        if status != 200:
            raise ImdsError(f"{self.address}: {path}: status {status}")
        return text

    def _read(self, path: str) -> tuple[int, str]:
        if not self._token:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
            status, text = self._ask("PUT", "/latest/api/token", wanted)
            if status != 200:
                raise ImdsError(f"{self.address}: no token: status {status}")
            self._token = text
        return self._ask("GET", f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token})

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        place = urlsplit(self.address)
        # http.client, not urllib: a proxy of the environment must never see this.
        connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ImdsError(f"{self.address}: {path}: {error}") from error
        finally:
            connection.close()
