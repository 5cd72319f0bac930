"""The image of gateway and workers: built from the Dockerfile at deploy, or given by its URI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from constructs import Construct

from llm_fleet.patterns.words import IMAGE_BUILD
from llm_fleet_constructs.grants import allow_pull

Architecture = Literal["x86_64", "arm64"]
_IDS = {"x86_64": "X86", "arm64": "Arm"}
_PLATFORMS = {"x86_64": ecr_assets.Platform.LINUX_AMD64, "arm64": ecr_assets.Platform.LINUX_ARM64}


@dataclass(frozen=True)
class ServiceImageProps:
    """Of ServiceImage."""

    image: str
    """A URI, or `build`. A URI must fit every architecture that is asked for."""
    folder: Path
    """Where Dockerfile and .dockerignore lie."""


class ServiceImage(Construct):
    """One image, for each architecture that somebody asks for.

    Smallest use:

        image = ServiceImage(self, "Image", ServiceImageProps("build", Path(".")))
        image.uri("x86_64")
        image.grant_pull(instance_role, "x86_64")

    Synthesis only hashes and copies what .dockerignore lets through; the CDK CLI builds and pushes before it deploys,
    with a container engine that can build for the architecture.
    """

    def __init__(self, scope: Construct, id: str, props: ServiceImageProps) -> None:
        super().__init__(scope, id)
        self._props = props
        self._built: dict[Architecture, ecr_assets.DockerImageAsset] = {}

    def uri(self, architecture: Architecture) -> str:
        """Where it lies; only a deploy knows it where it is built."""
        if self._props.image != IMAGE_BUILD:
            return self._props.image
        return self._asset(architecture).image_uri

    def grant_pull(self, grantee: iam.IGrantable, architecture: Architecture) -> None:
        """Pull it. A given image outside of an account's registry needs no leave."""
        if self._props.image != IMAGE_BUILD:
            allow_pull(grantee, self._props.image)
        else:
            allow_pull(grantee, self._asset(architecture).repository)

    def _asset(self, architecture: Architecture) -> ecr_assets.DockerImageAsset:
        if architecture not in self._built:
            self._built[architecture] = ecr_assets.DockerImageAsset(
                self, _IDS[architecture], directory=str(self._props.folder), platform=_PLATFORMS[architecture]
            )
        return self._built[architecture]
