"""Both stacks in one app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import App, Tags

from bench.bare_app.foundation import FoundationStack
from bench.bare_app.serving import ServingStack


def build_app(context: Mapping[str, Any], outdir: str | None = None) -> App:
    """The app; `context` holds the feature flags, `outdir` is where the assembly goes."""
    app = App(context=dict(context), outdir=outdir, analytics_reporting=False)
    foundation = FoundationStack(app)
    serving = ServingStack(app, foundation)
    Tags.of(foundation).add("llm-fleet:pattern", "startup-mvp")
    Tags.of(serving).add("llm-fleet:pattern", "startup-mvp")
    return app
