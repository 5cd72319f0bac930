"""FleetPlans in, a cloud assembly out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aws_cdk import App, Tags, Validations

from llm_fleet.planning.plan import FleetPlan
from llm_fleet.whole_file import write_whole
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack


def build_app(
    plans: Sequence[FleetPlan], *, context: Mapping[str, Any], outdir: str | None = None, nag: bool = True
) -> App:
    """The app with both stacks of each plan.

    `context` holds the feature flags; `outdir` is where the assembly goes (default: where the CDK CLI wants it);
    `nag` adds the AwsSolutions rules, whose findings fail synthesis.
    """
    app = App(context=dict(context), outdir=outdir, analytics_reporting=False)
    if nag:
        from cdk_nag import AwsSolutionsChecks  # loads a module of its own into Node: not when nobody asks for it

        Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    for plan in plans:
        foundation = FoundationStack(app, plan)
        serving = ServingStack(app, plan, foundation)
        for stack in (foundation, serving):
            Tags.of(stack).add("llm-fleet:pattern", plan.pattern)
    return app


def synthesize(app: App, plans: Sequence[FleetPlan]) -> Path:
    """Write the assembly with each plan beside its templates; returns its folder.

    Raises:
        RuntimeError: a finding of cdk-nag or of the CDK's own validation.
    """
    folder = Path(app.synth().directory)
    for metadata in sorted(folder.glob("*.metadata.json")):
        write_whole(metadata, _without_traces(metadata.read_text(encoding="utf-8")))
    for plan in plans:
        write_whole(folder / f"{plan.pattern}.plan.json", plan.to_json())
    return folder


def _without_traces(metadata: str) -> str:
    """Metadata without stack traces: they hold the temporary folder of this run's Node, and nothing else in an
    assembly does.
    """
    entries: dict[str, list[dict[str, Any]]] = json.loads(metadata)
    kept = {
        path: [
            {key: value for key, value in entry.items() if key != "trace"}
            for entry in found
            if entry["type"] != "aws:cdk:creationStack"
        ]
        for path, found in entries.items()
    }
    return json.dumps({path: found for path, found in kept.items() if found}, indent=1) + "\n"
