"""The ledger of what holds state: logical ids with their create-only properties. A change that would replace one
must be meant.

    python -m tests.templates.ledger accept LOGICAL_ID      records the present state of one resource, or that it is
    gone python -m tests.templates.ledger add                    records resources that are new; changes nothing else

Create-only properties come from the CloudFormation schemas that cfn-lint carries.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from tests.templates.assembly import Assembly, Template, synthesise

LEDGER = Path(__file__).parent / "ledger.json"
STATEFUL = frozenset(
    {"AWS::SQS::Queue", "AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::ElasticLoadBalancingV2::LoadBalancer"}
)
"""Kinds whose replacement loses something although nothing retains them: waiting messages, addresses, the
endpoint's name.
"""
Entry = dict[str, Any]
Ledger = dict[str, dict[str, Entry]]


@functools.cache
def create_only_properties(resource_type: str) -> tuple[str, ...]:
    """Names of top-level properties that cannot change without replacement."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource_type).schema
    paths: list[str] = schema.get("createOnlyProperties", [])
    return tuple(sorted({path.removeprefix("/properties/").split("/")[0] for path in paths}))


def entries(template: Template) -> dict[str, Entry]:
    """Logical id -> type and create-only properties, of every resource that is retained or holds state."""
    found: dict[str, Entry] = {}
    for logical_id, resource in sorted(template["Resources"].items()):
        kept = "Retain" in (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        if kept or resource["Type"] in STATEFUL:
            properties: Mapping[str, Any] = resource.get("Properties", {})
            names = [name for name in create_only_properties(resource["Type"]) if name in properties]
            found[logical_id] = {"Type": resource["Type"], "CreateOnly": {name: properties[name] for name in names}}
    return found


def current(assembly: Assembly) -> Ledger:
    """What the ledger would be if it were written now."""
    return {stack: entries(assembly.template(stack)) for stack in assembly.stacks()}


def read() -> Ledger:
    """The committed ledger; empty where there is none."""
    return json.loads(LEDGER.read_text()) if LEDGER.exists() else {}


def replacements(committed: Ledger, now: Ledger) -> Iterator[str]:
    """A sentence for each recorded resource that a deploy would replace or drop."""
    for stack, recorded in committed.items():
        for logical_id, entry in recorded.items():
            found = now.get(stack, {}).get(logical_id)
            advice = f"If you mean it: make accept-replacement ID={logical_id}"
            if found is None:
                yield f"{stack}: {entry['Type']} {logical_id} is gone; a deploy would drop or orphan it. {advice}"
            elif found != entry:
                names = [
                    name
                    for name in {**entry["CreateOnly"], **found["CreateOnly"]}
                    if entry["CreateOnly"].get(name) != found["CreateOnly"].get(name)
                ]
                changed = ", ".join(names) or "its type"
                yield f"{stack}: {entry['Type']} {logical_id} would be replaced, as {changed} changed. {advice}"


def unrecorded(committed: Ledger, now: Ledger) -> list[str]:
    """`stack: logical id` of resources that the ledger does not know yet."""
    return [f"{stack}: {id}" for stack, found in now.items() for id in found if id not in committed.get(stack, {})]


def accepted(committed: Ledger, now: Ledger, logical_id: str) -> Ledger:
    """The ledger with one resource brought to its present state, in every stack.

    Raises:
        KeyError: neither the ledger nor the templates know the id.
    """
    if not any(logical_id in found for ledger in (committed, now) for found in ledger.values()):
        raise KeyError(logical_id)
    result = {stack: dict(recorded) for stack, recorded in committed.items()}
    for stack in {*committed, *now}:
        recorded = result.setdefault(stack, {})
        recorded.pop(logical_id, None)
        if logical_id in now.get(stack, {}):
            recorded[logical_id] = now[stack][logical_id]
    return result


def with_new(committed: Ledger, now: Ledger) -> Ledger:
    """The ledger with new resources added; nothing recorded changes."""
    return {stack: {**now.get(stack, {}), **committed.get(stack, {})} for stack in {*committed, *now}}


def write(ledger: Ledger) -> None:
    """Replace the committed ledger whole."""
    draft = LEDGER.with_suffix(".tmp")
    draft.write_text(
        json.dumps({stack: found for stack, found in ledger.items() if found}, indent=1, sort_keys=True) + "\n"
    )
    os.replace(draft, LEDGER)


def main(words: list[str]) -> int:
    """Run `add` or `accept ID`; 2 where the words are wrong."""
    if words != ["add"] and not (len(words) == 2 and words[0] == "accept"):
        print("ledger: use `add`, or `accept LOGICAL_ID`", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        now = current(synthesise(Path(folder), nag=False))
    if words == ["add"]:
        write(with_new(read(), now))
        return 0
    try:
        write(accepted(read(), now, words[1]))
    except KeyError:
        print(f"ledger: no resource with the logical id {words[1]} is recorded or synthesised", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
