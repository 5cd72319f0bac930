"""Accepting findings of cdk-nag, narrowly: one rule, one construct, one true reason."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Accept `rule` on `construct` and what it holds. A rule with findings needs each named: AwsSolutions-
    IAM5[Resource::*].
    """
    Validations.of(construct).acknowledge(Acknowledgment(id=rule, reason=reason))


def printed(arn: str, *, owner: Stack, reader: Stack) -> str:
    """`arn`, of something in the stack `owner`, as cdk-nag prints it in a policy of the stack `reader`.

    References become <LogicalId.Attribute>; those into another stack stay JSON, with the name of the output that the
    CDK makes for them.
    """
    return _printed(owner.resolve(arn), owner, reader)


def _printed(value: Any, owner: Stack, reader: Stack) -> str:
    if isinstance(value, str):
        return value.replace("${", "<").replace("}", ">")
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(_printed(part, owner, reader) for part in parts)
    if "Ref" in value and (owner is reader or value["Ref"].startswith("AWS::")):
        return f"<{value['Ref']}>"
    if "Fn::Sub" in value:
        return _printed(value["Fn::Sub"], owner, reader)
    if owner is reader and "Fn::GetAtt" in value:
        return f"<{'.'.join(value['Fn::GetAtt'])}>"
    if owner is reader:
        return _compact(value)
    output = {"StackName": owner.stack_name, "Region": owner.region, "OutputName": _published_output(value)}
    return _compact({"Fn::GetStackOutput": output})


def _published_output(reference: Any) -> str:
    """Logical id of the output through which the CDK publishes a weak reference: its construct path, squeezed, with
    eight hex digits.
    """
    path = ("Publish", f"Output{_compact(reference)}")
    return re.sub(r"[^A-Za-z0-9]", "", "".join(path)) + hashlib.md5("/".join(path).encode()).hexdigest()[:8].upper()


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
