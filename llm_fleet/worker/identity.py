"""Which instance this is."""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.worker.imds import Imds, ImdsError


@dataclass(frozen=True)
class Identity:
    """One instance, as registry, group and gateway know it."""

    worker_id: str
    """The instance's id."""
    host: str
    """Where its engines listen."""
    instance_type: str
    group: str | None
    """Name of its Auto Scaling group; None outside of one, and then there are no hooks."""


def read_identity(imds: Imds) -> Identity:
    """Of an instance.

    Raises:
        ImdsError: the service is silent, or lacks what every instance has.
    """
    return Identity(
        worker_id=_need(imds, "instance-id"),
        host=_need(imds, "local-ipv4"),
        instance_type=_need(imds, "instance-type"),
        group=imds.get("tags/instance/aws:autoscaling:groupName"),
    )


def _need(imds: Imds, path: str) -> str:
    text = imds.get(path)
    if text is None:
        raise ImdsError(f"{imds.address}: there is no {path}")
    return text
