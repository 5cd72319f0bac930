"""Reading a template: resources by type, and what a construct's path prefix says of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.templates.assembly import Template

POOL_PREFIX = {
    "high_performance": "HighPerformance",
    "cost_efficient": "CostEfficient",
    "batch_processing": "BatchProcessing",
}


def of_type(template: Template, kind: str, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Logical id -> properties of every resource of a type, of those whose id starts with `prefix`."""
    return {
        logical_id: resource.get("Properties", {})
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == kind and logical_id.startswith(prefix)
    }


def the(template: Template, kind: str, prefix: str = "") -> dict[str, Any]:
    """Properties of the only resource of a type under a prefix."""
    found = of_type(template, kind, prefix)
    assert len(found) == 1, f"{len(found)} of {kind} under {prefix!r}: {', '.join(found)}"
    return next(iter(found.values()))


def everything_in(value: Any) -> Iterator[Any]:
    """The value and all values below it."""
    yield value
    if isinstance(value, dict):
        for item in value.values():
            yield from everything_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from everything_in(item)


def statements(template: Template, prefix: str = "") -> list[dict[str, Any]]:
    """Every statement of the identity policies under a prefix."""
    policies = of_type(template, "AWS::IAM::Policy", prefix).values()
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def actions(statement: dict[str, Any]) -> list[str]:
    """A statement's actions as a list."""
    return statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


def pulled_from(template: Template, prefix: str) -> list[Any]:
    """Repositories that the roles under a prefix may pull from."""
    found = [
        statement["Resource"] for statement in statements(template, prefix) if "ecr:BatchGetImage" in actions(statement)
    ]
    return [arn for resource in found for arn in (resource if isinstance(resource, list) else [resource])]
