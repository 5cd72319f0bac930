"""Brings weights and compiled artefacts onto the disk. The first instance of all fills the cache, from the Hub or
by compiling.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .aws import Aws
from .cache import Cache
from .imds import Imds
from .settings import DATA, REPORT_TO, FatalError, Settings

CODE = Path(__file__).resolve().parent.parent
MODELS, ARTIFACTS = DATA / "models", DATA / "artifacts"
MODEL_FOLDER = MODELS / "m"
"""Link to the weights that are served."""
TO_PUBLISH = REPORT_TO / "artifacts-lock"
"""Holds the ETag of the artefacts' lock while this instance is the one that compiles."""


def pull_images(settings: Settings, aws: Aws) -> None:
    """Pull the images of engine and worker; a registry of this account wants a password first."""
    for image in filter(None, (settings.worker_image, settings.image)):
        registry = image.split("/", 1)[0]
        if ".dkr.ecr." in registry:
            login = ["docker", "login", "--username", "AWS", "--password-stdin", registry]
            subprocess.run(login, input=aws.registry_password(), text=True, check=True)
        subprocess.run(["docker", "pull", "--quiet", image], check=True)


def fetch_all(settings: Settings, aws: Aws, imds: Imds) -> None:
    """Weights first, then the compiled artefacts where the engine has any.

    Raises:
        FatalError: no repository is known for the precision, or what was fetched is not what the manifest says.
    """
    owner = imds.need("instance-id")
    fetch_weights(settings, aws, owner)
    key = settings.plan_for(imds.need("instance-type")).artifacts_key
    if key is not None:
        claim_artifacts(Cache(aws, settings.weights_bucket, key, owner))


def fetch_weights(settings: Settings, aws: Aws, owner: str) -> None:
    """Have the weights at MODEL_FOLDER."""
    repository = settings.repository
    if repository is None:
        raise FatalError(
            f"no weights repository is known for {settings.served_model_name}: set weights.repository in the pattern"
        )
    token = aws.secret(settings.token_secret) if settings.token_secret else ""
    revision = settings.revision or pinned_commit(settings, aws, repository, token)
    folder = MODELS / repository.replace("/", "--") / revision

    def from_hub(part: Path) -> None:
        _run_hub(settings, token, part, "download", repository, revision, "/target")
        shutil.rmtree(part / ".cache", ignore_errors=True)

    cache = Cache(aws, settings.weights_bucket, f"weights/{repository}/{revision}", owner)
    cache.bring(folder, from_hub, repository=repository, revision=revision)
    MODEL_FOLDER.unlink(missing_ok=True)
    MODEL_FOLDER.symlink_to(folder.relative_to(MODELS))


def pinned_commit(settings: Settings, aws: Aws, repository: str, token: str) -> str:
    """The commit to serve where the pattern names none: the first instance writes down what the default branch
    points to, all follow.

    So a branch that moves cannot give one pool two models.
    """
    key = f"weights/{repository}/PINNED"
    pinned = aws.get(settings.weights_bucket, key)
    if pinned is None:
        found = _run_hub(settings, token, MODELS, "commit", repository).strip()
        aws.put(settings.weights_bucket, key, found.encode(), "--if-none-match", "*")
        pinned = aws.get(settings.weights_bucket, key) or found.encode()
    return pinned.decode().strip()


def claim_artifacts(cache: Cache) -> None:
    """Fetch the compiled artefacts; or, where nobody has them, note that this instance compiles and must publish
    them.
    """
    folder = ARTIFACTS / cache.prefix.replace("/", "--")
    if (folder / ".ok").exists():
        return
    etag = cache.claim()
    if etag is None:
        cache.fetch(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        TO_PUBLISH.parent.mkdir(parents=True, exist_ok=True)
        TO_PUBLISH.write_text(etag)


def _run_hub(settings: Settings, token: str, target: Path, *arguments: str) -> str:
    """Run hub.py in the engine's container; the token reaches only this process, by environment."""
    target.mkdir(parents=True, exist_ok=True)
    command = ["docker", "run", "--rm", "--network", "host", "--env", "HF_TOKEN", "--env", "HF_XET_HIGH_PERFORMANCE=1"]
    command += ["--env", "HF_HUB_DISABLE_TELEMETRY=1", "--env", "PYTHONPATH=/code", "--volume", f"{CODE}:/code:ro"]
    command += [
        "--volume",
        f"{target}:/target",
        "--entrypoint",
        "python3",
        settings.image,
        "-m",
        "on_instance.hub",
        *arguments,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_TOKEN": token}, check=True)
    return done.stdout
