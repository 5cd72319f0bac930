"""Rules of others over our templates: cdk-nag and the CDK's own validation, cfn-lint, an IAM linter; and the same
bytes everywhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from cfnlint import api
from cfnlint.config import ManualArgs
from parliament import analyze_policy_string
from parliament.finding import Finding

from tests.templates.assembly import ROOT, Assembly, synthesise
from tests.templates.test_snapshots import STACKS

CDK_HABITS = ("W3005",)
"""A dependency written out beside a reference that implies it: the CDK does so wherever a construct depends on
another.
"""


def test_cdk_nag_and_the_cdks_own_rules_find_nothing(assembly: Assembly) -> None:
    assert assembly.violations() == []


@pytest.mark.parametrize("stack", STACKS)
def test_cfn_lint_finds_nothing(stack: str, assembly: Assembly) -> None:
    text = (assembly.folder / f"{stack}.template.json").read_text()
    found = api.lint(text, config=ManualArgs(regions=["us-east-1"], ignore_checks=[*CDK_HABITS]))
    assert [str(match) for match in found] == []


def policies(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every identity policy of a template, with the logical id that holds it."""
    for logical_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            yield logical_id, properties["PolicyDocument"]
        for inline in properties.get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
            yield logical_id, inline["PolicyDocument"]


def plain(value: Any) -> Any:
    """A policy with CloudFormation's functions replaced by what they would look like once resolved."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Join" in value:
        return "".join(plain(part) for part in value["Fn::Join"][1])
    if len(value) == 1 and (key := next(iter(value))) in ("Ref", "Fn::GetAtt", "Fn::GetStackOutput", "Fn::Sub"):
        return _resolved(key, value[key])
    return {key: plain(item) for key, item in value.items()}


def _resolved(function: str, argument: Any) -> str:
    known = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012"}
    if function == "Ref":
        return known.get(argument, "resolved")
    return "arn:aws:s3:::resolved" if "Arn" in json.dumps(argument) else "resolved"


def is_a_newer_action(finding: Finding) -> bool:
    """Whether the linter's list is merely older than the action: AWS's own client has an operation of that name."""
    if finding.issue != "UNKNOWN_ACTION":
        return False
    service, _, action = str(finding.location["string"]).partition(":")
    return action in botocore.session.get_session().get_service_model(service).operation_names


@pytest.mark.parametrize("stack", STACKS)
def test_the_iam_linter_finds_no_unknown_action_and_no_malformed_policy(stack: str, assembly: Assembly) -> None:
    wrong = {"UNKNOWN_ACTION", "UNKNOWN_PREFIX", "MALFORMED", "MALFORMED_JSON", "UNKNOWN_CONDITION_FOR_ACTION"}
    for logical_id, document in policies(assembly.template(stack)):
        findings = analyze_policy_string(json.dumps(plain(document))).findings
        serious = [finding for finding in findings if finding.issue in wrong and not is_a_newer_action(finding)]
        assert [f"{logical_id}: {finding}" for finding in serious] == []


@pytest.mark.parametrize("stack", STACKS)
def test_no_policy_allows_every_action(stack: str, assembly: Assembly) -> None:
    for logical_id, document in policies(assembly.template(stack)):
        for statement in document["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not any(action == "*" or action.endswith(":*") for action in actions), logical_id


def test_two_syntheses_in_two_folders_are_the_same_bytes_whatever_lies_about(tmp_path: Path) -> None:
    """A compiled file beside the sources of the instance's bundle must not change its hash."""
    first = synthesise(tmp_path / "one", ("startup-mvp",), nag=False)
    litter = ROOT / "constructs" / "llm_fleet_constructs" / "on_instance" / "__pycache__"
    existed = litter.exists()
    litter.mkdir(exist_ok=True)
    (litter / "litter.cpython-311.pyc").write_bytes(b"litter")
    try:
        second = synthesise(tmp_path / "two", ("startup-mvp",), nag=False)
    finally:
        (litter / "litter.cpython-311.pyc").unlink()
        if not existed:
            shutil.rmtree(litter)
    names = sorted(path.relative_to(first.folder) for path in first.folder.rglob("*") if path.is_file())
    assert len(names) > 10
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name


def test_the_folder_constructs_stays_a_source_root() -> None:
    """With an __init__.py it would hide the package that the CDK itself imports."""
    assert not (ROOT / "constructs" / "__init__.py").exists()
