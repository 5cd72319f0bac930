"""All four patterns stand at once on the local cloud, each as planned, and go again leaving what must be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from localcloud.cdk import run_cdk
from localcloud.cloud import LocalCloud
from localcloud.comparing import compare, pool_id
from localcloud.reading import FleetReader
from tests.deploy.conftest import Synth


@pytest.fixture(scope="module")
def everything(cloud: LocalCloud, synth: Synth) -> Path:
    """The assembly of all patterns, deployed."""
    assembly = synth()
    run_cdk(cloud, "deploy", "--all", "--app", str(assembly), "--require-approval", "never", "--concurrency", "4")
    return assembly


@pytest.fixture(scope="module")
def destroyed(cloud: LocalCloud, everything: Path) -> None:
    """All patterns destroyed; tests that need them deployed stand above those that use this."""
    run_cdk(cloud, "destroy", "--all", "--app", str(everything), "--force")


@pytest.mark.parametrize("pattern", pattern_names())
def test_a_pattern_stands_as_planned(pattern: str, everything: Path, reader: FleetReader) -> None:
    plan, fleet = plan_fleet(pattern), reader.fleet(pattern)
    assert set(fleet.groups) == {pool_id(pool.role) for pool in plan.pools}
    assert [fact for pool in plan.pools for fact in compare(pool, fleet) if not fact.agrees] == []


@pytest.mark.parametrize("pattern", pattern_names())
def test_every_alarm_runs_a_policy_or_tells_somebody(pattern: str, everything: Path, reader: FleetReader) -> None:
    alarms = reader.fleet(pattern).alarms
    assert {service for alarm in alarms for service in alarm.runs} <= {"autoscaling", "lambda", "sns"}
    assert [alarm.name for alarm in alarms if not alarm.runs] == []


def test_destroying_every_pattern_leaves_no_stack_and_no_group(cloud: LocalCloud, destroyed: None) -> None:
    formation = cloud.session().client("cloudformation", endpoint_url=cloud.endpoint_url)
    stacks = {stack["StackName"] for stack in formation.describe_stacks()["Stacks"]}
    assert not stacks & {name for pattern in pattern_names() for name in (pattern, f"{pattern}-foundation")}
    autoscaling = cloud.session().client("autoscaling", endpoint_url=cloud.endpoint_url)
    assert autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"] == []


@pytest.mark.parametrize("pattern", pattern_names())
def test_destroying_a_pattern_keeps_its_weights(pattern: str, cloud: LocalCloud, destroyed: None) -> None:
    buckets = cloud.session().client("s3", endpoint_url=cloud.endpoint_url).list_buckets()["Buckets"]
    assert any(bucket.get("Name", "").startswith(f"{pattern}-foundation-weights") for bucket in buckets)
