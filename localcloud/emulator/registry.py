"""Register CloudFormation resource types in ministack's handler table, or extend those that it has."""

from collections.abc import Callable
from typing import Any

from ministack.services.cloudformation import provisioners

Properties = dict[str, Any]
Created = tuple[str, dict[str, Any]]  # the physical id (what Ref gives) and the attributes (what Fn::GetAtt gives)
Create = Callable[[str, Properties, str], Created]
Delete = Callable[[str, Properties], None]
Update = Callable[[str, Properties, Properties, str], Created]
Check = Callable[[Properties], None]
After = Callable[[str, Properties], dict[str, Any]]


def allow_everything(properties: Properties) -> None:
    """The check of a type whose properties ministack itself judges well enough."""


def register(resource_type: str, create: Create, delete: Delete, update: Update | None = None) -> None:
    """Add a resource type. Without `update` a change creates anew, then deletes the old one if the id differs."""

    def replace(physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Created:
        created = create(logical_id, new, stack)
        if created[0] != physical_id:
            delete(physical_id, old)
        return created

    handler: dict[str, Any] = {"create": create, "delete": delete, "update": update or replace}
    if update is None:
        handler["update_with_logical_id"] = True
    provisioners._RESOURCE_HANDLERS[resource_type] = handler


def extend(resource_type: str, after: After, check: Check = allow_everything) -> None:
    """Run `check(properties)` before each create and update and `after(physical_id, properties)` behind it.

    A check that raises ValueError fails the resource before anything changed.
    What `after` returns joins the attributes.
    """
    handler = provisioners._RESOURCE_HANDLERS[resource_type]
    create, update = handler["create"], handler["update"]

    def extended_create(logical_id: str, properties: Properties, stack: str) -> Created:
        check(properties)
        physical_id, attributes = create(logical_id, properties, stack)
        return physical_id, {**attributes, **after(physical_id, properties)}

    def extended_update(physical_id: str, old: Properties, new: Properties, *rest: str) -> Created:
        check(new)
        physical_id, attributes = update(physical_id, old, new, *rest)
        return physical_id, {**attributes, **after(physical_id, new)}

    handler.update(create=extended_create, update=extended_update)


def physical_name(stack: str, logical_id: str) -> str:
    """A name made as CloudFormation makes one for a resource that was given none."""
    return provisioners._physical_name(stack, logical_id)


def accepted(answer: tuple[int, dict[str, str], bytes]) -> bytes:
    """The body of a service module's answer.

    Raises:
        ValueError: the service refused; its message becomes the resource's failure reason.
    """
    status, _headers, body = answer
    if status >= 300:
        raise ValueError(body.decode())
    return body
