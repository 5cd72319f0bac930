"""The AWS CLI, as far as an instance needs it: the S3 cache, the Hub's token, the lifecycle hooks of its own group."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MISSING = ("(404)", "Not Found", "NoSuchKey")
_CONDITION = ("PreconditionFailed", "ConditionalRequestConflict")


class AwsError(Exception):
    """The CLI failed; the text is what it said."""


@dataclass(frozen=True)
class Stored:
    """One object's state: its ETag and when it was written, ISO 8601."""

    etag: str
    modified: str


class Aws:
    """Runs `aws` in one region. Every call may raise AwsError."""

    def __init__(self, region: str, program: str = "aws") -> None:
        self._region = region
        self._program = program

    def head(self, bucket: str, key: str) -> Stored | None:
        """The object's state, or None where there is none."""
        try:
            answer = json.loads(self._run("s3api", "head-object", "--bucket", bucket, "--key", key))
        except AwsError as error:
            if any(mark in str(error) for mark in _MISSING):
                return None
            raise
        return Stored(answer["ETag"], answer["LastModified"])

    def get(self, bucket: str, key: str) -> bytes | None:
        """The object's bytes, or None where there is none. For small objects."""
        with tempfile.NamedTemporaryFile() as file:
            try:
                self._run("s3api", "get-object", "--bucket", bucket, "--key", key, file.name)
            except AwsError as error:
                if any(mark in str(error) for mark in _MISSING):
                    return None
                raise
            return Path(file.name).read_bytes()

    def put(self, bucket: str, key: str, body: bytes, *condition: str) -> str | None:
        """Write; returns the new ETag, or None where the condition (--if-none-match '*' or --if-match ETAG) did not
        hold.
        """
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(body)
            try:
                text = self._run(
                    "s3api", "put-object", "--bucket", bucket, "--key", key, "--body", file.name, *condition
                )
            except AwsError as error:
                if condition and any(mark in str(error) for mark in _CONDITION):
                    return None
                raise
        return json.loads(text)["ETag"]

    def copy(self, source: str, target: str) -> None:
        """`aws s3 sync` of a folder either way; what is already there with the same size is kept."""
        self._run("s3", "sync", "--only-show-errors", "--size-only", source, target)

    def secret(self, name: str) -> str:
        """A secret's text."""
        answer = self._run("secretsmanager", "get-secret-value", "--secret-id", name)
        return json.loads(answer)["SecretString"]

    def registry_password(self) -> str:
        """The password of this account's image registry, for 12 hours."""
        return self._run("ecr", "get-login-password")

    def lifecycle(self, action: str, group: str, hook: str, instance_id: str, *more: str) -> None:
        """`complete-lifecycle-action` or `record-lifecycle-action-heartbeat` for this instance."""
        names = ("--auto-scaling-group-name", group, "--lifecycle-hook-name", hook, "--instance-id", instance_id)
        self._run("autoscaling", action, *names, *more)

    def mark_unhealthy(self, instance_id: str) -> None:
        """Have the group replace this instance."""
        self._run("autoscaling", "set-instance-health", "--instance-id", instance_id, "--health-status", "Unhealthy")

    def _run(self, *arguments: str) -> str:
        command = [self._program, "--region", self._region, "--output", "json", *arguments]
        done: subprocess.CompletedProcess[Any] = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AwsError(f"aws {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done.stdout
