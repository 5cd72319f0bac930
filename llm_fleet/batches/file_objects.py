"""Files in the batch files bucket, read and written in pieces: no file is ever in memory whole."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART_BYTES = 8 * 1024 * 1024
"""Of a multipart upload: above S3's least of 5 MiB, and 200 MB stay far below its 10,000 parts."""
RANGE_BYTES = 4 * 1024 * 1024
"""Read at once: S3 need not wait on a slow reader, and a broken connection costs this much again."""
READ_TRIES = 3
READ_WAIT_S = 0.2


class FileObjects:
    """The bucket. Calls raise botocore's ClientError or BotoCoreError."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def read(self, key: str, size: int, offset: int = 0) -> Iterator[bytes]:
        """The object's bytes from `offset` to `size`, in pieces."""
        for start in range(offset, size, RANGE_BYTES):
            yield self.read_range(key, start, min(start + RANGE_BYTES, size))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """The object's bytes from `start` up to `end`."""
        for attempt in range(READ_TRIES):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{end - 1}")
                return answer["Body"].read()
            except (BotoCoreError, HTTPError, OSError):  # ClientError is none of these: S3 has answered
                if attempt + 1 == READ_TRIES:
                    raise
                time.sleep(READ_WAIT_S * 2**attempt)
        raise AssertionError("the last try raises or returns")

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def writer(self, key: str) -> FileWriter:
        """Begin a new object."""
        return FileWriter(self._s3, self._bucket, key)


class FileWriter:
    """Writes one object in parts; it is there once finish() has returned, and never partly.

    add() does no I/O, so that an event loop can call it; the rest belongs into a thread there.
    """

    def __init__(self, s3: S3Client, bucket: str, key: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._upload_id: str | None = None
        self._parts: list[Any] = []
        self.size = 0

    def add(self, piece: bytes) -> bool:
        """Take bytes. True where a part is full: call write_part() before adding more."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self.size += len(piece)
        return self._waiting >= PART_BYTES

    def write_part(self) -> None:
        """Send what was added."""
        if self._upload_id is None:
            self._upload_id = self._s3.create_multipart_upload(Bucket=self._bucket, Key=self._key)["UploadId"]
        number = len(self._parts) + 1
        answer = self._s3.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=self._take()
        )
        checksum = {name: value for name, value in answer.items() if name.startswith("ChecksumCRC")}
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"], **checksum})

    def finish(self) -> None:
        """Send the rest; the object is there."""
        if self._upload_id is None:
            self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=self._take())
            return
        if self._waiting:
            self.write_part()
        self._s3.complete_multipart_upload(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
        )
        self._upload_id = None

    def abort(self) -> None:
        """Leave nothing behind where the writing ended early. Never raises: the bucket deletes leftovers in a day."""
        if self._upload_id is not None:
            with contextlib.suppress(ClientError, BotoCoreError):
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)

    def _take(self) -> bytes:
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        return body
