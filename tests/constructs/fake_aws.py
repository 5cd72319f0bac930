#!/usr/bin/env python3
"""Stands in for the AWS CLI on PATH: buckets are folders below FAKE_AWS, conditional writes hold, calls are logged.

It knows what `on_instance/aws.py` uses, and refuses everything else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(os.environ["FAKE_AWS"])


def option(name: str) -> str:
    """Value of an option."""
    return sys.argv[sys.argv.index(name) + 1]


def given(name: str) -> bool:
    """Whether the option is there."""
    return name in sys.argv


def etag(path: Path) -> str:
    """As S3 gives it, quoted."""
    return f'"{hashlib.md5(path.read_bytes()).hexdigest()}"'


def fail(text: str) -> None:
    """End as the CLI does."""
    print(f"\nAn error occurred {text}", file=sys.stderr)
    sys.exit(254)


def s3api(operation: str) -> None:
    """head-object, get-object, put-object."""
    path = ROOT / "buckets" / option("--bucket") / option("--key")
    if operation == "put-object":
        put(path)
    elif not path.exists():
        fail(f"(404) when calling the {operation} operation: Not Found")
    elif operation == "head-object":
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
        print(json.dumps({"ETag": etag(path), "LastModified": modified}))
    elif operation == "get-object":
        shutil.copyfile(path, sys.argv[-1])
    else:
        fail(f"unknown operation {operation}")


def put(path: Path) -> None:
    """Conditional write under a lock of the whole store, as S3 decides one winner."""
    with (ROOT / "store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if given("--if-none-match") and path.exists():
            fail("(PreconditionFailed) when calling the PutObject operation")
        if given("--if-match") and (not path.exists() or etag(path) != option("--if-match")):
            fail("(PreconditionFailed) when calling the PutObject operation")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / f".{path.name}.draft"
        shutil.copyfile(option("--body"), draft)
        os.replace(draft, path)  # nobody ever reads half an object
        print(json.dumps({"ETag": etag(path)}))


def sync(source: str, target: str) -> None:
    """Copy a folder into or out of a bucket."""

    def local(place: str) -> Path:
        return ROOT / "buckets" / place.removeprefix("s3://") if place.startswith("s3://") else Path(place)

    shutil.copytree(local(source), local(target), dirs_exist_ok=True)


def main() -> None:
    """One call."""
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    with (ROOT / "calls.log").open("a") as log:
        log.write(json.dumps(sys.argv[1:]) + "\n")
    service = sys.argv[5]
    if service == "s3api":
        s3api(sys.argv[6])
    elif service == "s3":
        sync(sys.argv[-2], sys.argv[-1])
    elif service == "secretsmanager":
        print(json.dumps({"SecretString": f"secret of {option('--secret-id')}"}))
    elif service == "ecr":
        print("password")
    elif service == "autoscaling":
        if (ROOT / "no-hook").exists():
            fail(
                "(ValidationError) when calling the CompleteLifecycleAction operation: No active Lifecycle Action found"
            )
    else:
        fail(f"unknown call {words}")


if __name__ == "__main__":
    main()
