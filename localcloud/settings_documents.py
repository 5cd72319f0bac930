"""The settings documents of a fleet: as the stack deployed them, or for resources made here without a stack."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.child import LocalCloudError
from localcloud.cloud import LocalCloud

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

GATEWAY_SETTINGS = "GatewaySettings"
"""Construct id of the parameter in the serving stack."""
IN_USER_DATA = re.compile(r"<<'SETTINGS'\n(.*?)\nSETTINGS\n", re.DOTALL)
"""The pool's document, as the first-boot script writes it to the instance's disk."""


@dataclass(frozen=True)
class SettingsDocuments:
    """What gateway and workers read, before anything is changed for loopback."""

    gateway: dict[str, Any]
    pools: dict[str, dict[str, Any]]
    """By role."""


def deployed_documents(cloud: LocalCloud, stack: str) -> SettingsDocuments:
    """Those of a deployed serving stack: the gateway's from its SSM parameter, each pool's out of the user data of its
    launch template; every name in them was resolved by the deployment.

    Raises:
        LocalCloudError: the stack has none.
        botocore's ClientError: there is no such stack.
    """
    found = _resources(cloud.client("cloudformation"), stack)
    names = [name for logical_id, name in found["AWS::SSM::Parameter"] if logical_id.startswith(GATEWAY_SETTINGS)]
    if len(names) != 1:
        raise LocalCloudError(f"{stack} has {len(names)} parameters named {GATEWAY_SETTINGS}..., not 1")
    parameter = cloud.client("ssm").get_parameter(Name=names[0])["Parameter"]
    pools = [_pool_document(cloud, template) for _, template in found["AWS::EC2::LaunchTemplate"]]
    return SettingsDocuments(json.loads(parameter["Value"]), {document["pool"]: document for document in pools})


def _resources(formation: CloudFormationClient, stack: str) -> dict[str, list[tuple[str, str]]]:
    """(logical id, physical id) of the stack's resources, by type."""
    found: dict[str, list[tuple[str, str]]] = {}
    for page in formation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            ids = (resource["LogicalResourceId"], resource.get("PhysicalResourceId", ""))
            found.setdefault(resource["ResourceType"], []).append(ids)
    return found


def _pool_document(cloud: LocalCloud, template: str) -> dict[str, Any]:
    versions = cloud.client("ec2").describe_launch_template_versions(LaunchTemplateId=template, Versions=["$Latest"])
    user_data = base64.b64decode(versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"]).decode()
    written = IN_USER_DATA.search(user_data)
    if written is None:
        raise LocalCloudError(f"the user data of launch template {template} writes no settings document")
    return json.loads(written[1])
