"""All patterns synthesised once: templates, plans and the validation report, read back from the folder that the CDK
wrote.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app import use_packaged_node
from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet

ROOT = Path(__file__).parents[2]
Template = dict[str, Any]
_HASH = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Assembly:
    """A cloud assembly on disk."""

    folder: Path

    def stacks(self) -> list[str]:
        """Names of all stacks, sorted."""
        return sorted(path.name.removesuffix(".template.json") for path in self.folder.glob("*.template.json"))

    def template(self, stack: str) -> Template:
        """A stack's template as written."""
        return json.loads((self.folder / f"{stack}.template.json").read_text())

    def plan_text(self, pattern: str) -> str:
        """A pattern's plan as written."""
        return (self.folder / f"{pattern}.plan.json").read_text()

    def violations(self) -> list[str]:
        """Every finding of cdk-nag and the CDK's own rules that is worse than a warning, as `rule at path`."""
        report = json.loads((self.folder / "validation-report.json").read_text())
        return [
            f"{violation['ruleName']} at {construct['constructPath']}"
            for plugin in report["pluginReports"]
            for violation in plugin["violations"]
            if violation.get("severity") != "warning"
            for construct in violation["violatingConstructs"]
        ]


def flags() -> dict[str, Any]:
    """The context of cdk.json: feature flags act only from there."""
    return json.loads((ROOT / "cdk.json").read_text())["context"]


def synthesise(folder: Path, patterns: tuple[str, ...] | None = None, nag: bool = True) -> Assembly:
    """Write the assembly of the patterns (default: all) into the folder; findings are left in its report."""
    use_packaged_node(os.environ)
    from stacks.fleet_app import build_app, synthesize

    plans = [plan_fleet(name) for name in patterns or pattern_names()]
    try:
        synthesize(build_app(plans, context=flags(), outdir=str(folder), nag=nag), plans)
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
    return Assembly(folder)


class _Readable(yaml.SafeDumper):
    """Text of several lines as a block, so that a changed line of a script is one line of a diff."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _block)


def normalised(template: Template) -> str:
    """A template as YAML, keys sorted, hashes of assets masked: they follow the code inside, which has tests of its
    own.
    """
    return _HASH.sub("<asset hash>", yaml.dump(template, Dumper=_Readable, sort_keys=True, width=120))
