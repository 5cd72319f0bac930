"""The one result of a line, as OpenAI writes it into output and error files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import ClientError

from llm_fleet.batches.ledger import BatchLedger, Outcome

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


@dataclass(frozen=True)
class Answer:
    """What the engine answered, any status. `body` is JSON as it came."""

    status_code: int
    request_id: str
    body: bytes


@dataclass(frozen=True)
class Failure:
    """Why a line has no answer: a name that programs know, and a sentence."""

    code: str
    message: str


def result_key(batch_id: str, line: int) -> str:
    """Key of a line's result in the results bucket; keys of a batch sort by line."""
    return f"{batch_id}/{line:06d}.json"


def result_line(batch_id: str, line: int, custom_id: str, result: Answer | Failure) -> bytes:
    """The line for the output or error file, without an end of line. Same input, same bytes."""
    request = hashlib.sha256(f"{batch_id}/{line}".encode()).hexdigest()[:24]
    response: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    if isinstance(result, Answer):
        body = orjson.Fragment(result.body)
        response = {"status_code": result.status_code, "request_id": result.request_id, "body": body}
    else:
        error = {"code": result.code, "message": result.message}
    return orjson.dumps({"id": f"batch_req_{request}", "custom_id": custom_id, "response": response, "error": error})


def outcome_of(line: bytes) -> Outcome:
    """How a result line ended: completed with a 2xx answer, else failed."""
    response = orjson.loads(line)["response"]
    return "completed" if response is not None and 200 <= response["status_code"] < 300 else "failed"


class Results:
    """Writes results once. `bucket` is the results bucket. Raises botocore's ClientError or BotoCoreError."""

    def __init__(self, s3: S3Client, bucket: str, ledger: BatchLedger, clock: Callable[[], float] = time.time) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._ledger = ledger
        self._clock = clock

    def stored(self, batch_id: str, line: int) -> bytes | None:
        """The result line that stands, or None while there is none."""
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=result_key(batch_id, line))["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise

    def record(self, batch_id: str, line: int, custom_id: str, result: Answer | Failure) -> bool:
        """Store the result unless one stands, and count the line by what stands. True where this call's was first.

        Safe to repeat at any point: whatever step an earlier call died at, the next call does the rest.
        """
        body = result_line(batch_id, line, custom_id, result)
        try:
            self._s3.put_object(Bucket=self._bucket, Key=result_key(batch_id, line), Body=body, IfNoneMatch="*")
            first = True
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                raise
            first = False
            body = self.stored(batch_id, line) or body
        self._ledger.count(batch_id, line, outcome_of(body), self._clock())
        return first
