"""The life of one pattern on the local cloud, by the real CDK CLI: deployed, updated, rolled back, destroyed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_fleet.planning import plan_fleet
from localcloud.cdk import run_cdk
from localcloud.child import LocalCloudError
from localcloud.cloud import LocalCloud
from localcloud.comparing import compare, policy_of
from localcloud.reading import Fleet, FleetReader
from tests.deploy.conftest import Synth

PATTERN = "startup-mvp"
POOL = "CostEfficient"
IMAGE = {"image": "none"}
"""As the assemblies are made: no container engine is needed."""


def deploy(cloud: LocalCloud, assembly: Path) -> None:
    run_cdk(cloud, "deploy", PATTERN, "--app", str(assembly), "--require-approval", "never")


def stack_status(cloud: LocalCloud, stack: str) -> str:
    formation = cloud.session().client("cloudformation", endpoint_url=cloud.endpoint_url)
    return formation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]


@pytest.fixture(scope="module")
def assembly(synth: Synth) -> Path:
    return synth(f"pattern={PATTERN}")


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud, assembly: Path) -> Iterator[Path]:
    """The pattern as it stands in the configuration; destroyed at the end, whatever the tests made of it."""
    deploy(cloud, assembly)
    yield assembly
    run_cdk(cloud, "destroy", "--all", "--app", str(assembly), "--force")


@pytest.fixture
def fleet(cloud: LocalCloud, deployed: Path, reader: FleetReader) -> Fleet:
    """What exists, with the configuration's own plan deployed (a deployment without a change takes a moment)."""
    deploy(cloud, deployed)
    return reader.fleet(PATTERN)


def test_the_group_has_the_planned_types_weights_base_and_spot_share(fleet: Fleet) -> None:
    (pool,) = plan_fleet(PATTERN).pools
    group = fleet.groups[POOL]
    planned = [(choice.instance_type, choice.capacity_weight) for choice in pool.choices]
    assert [(override.instance_type, override.weight) for override in group.overrides] == planned
    assert group.on_demand_base == pool.purchase.on_demand_base
    assert group.on_demand_percent_above_base == 100 - pool.purchase.spot_percent == 30
    assert (group.min_units, group.max_units) == (pool.scaling.min_units, pool.scaling.max_units)


def test_the_group_rebalances_and_holds_instances_at_both_ends_of_their_life(fleet: Fleet) -> None:
    group = fleet.groups[POOL]
    assert (group.capacity_rebalance, group.spot_strategy) == (True, "price-capacity-optimized")
    assert group.warm_up_seconds == 0
    assert group.hooks == ("autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING")


def test_target_tracking_only_scales_out_on_metric_math(fleet: Fleet) -> None:
    track = policy_of(fleet.groups[POOL], "Track")
    assert (track.kind, track.target, track.scales_in) == ("TargetTrackingScaling", 10, False)
    assert track.metrics > 1


def test_each_step_policy_is_run_by_one_alarm_on_metric_math(fleet: Fleet) -> None:
    for name, changes in (("StepOut", [2, 4, 8]), ("StepIn", [-1])):
        policy = policy_of(fleet.groups[POOL], name)
        assert [change for _lower, _upper, change in policy.steps] == changes
        assert [alarm.metrics > 1 for alarm in policy.alarms] == [True]


def test_poison_goes_to_a_dead_letter_queue_that_exists(cloud: LocalCloud, fleet: Fleet) -> None:
    queue = fleet.queues[POOL]
    sqs = cloud.session().client("sqs", endpoint_url=cloud.endpoint_url)
    url = sqs.get_queue_url(QueueName=queue.dead_letter_arn.rpartition(":")[2])["QueueUrl"]
    assert url != queue.url
    assert queue.encrypted


def test_the_outputs_trace_what_runs_to_its_plan(fleet: Fleet, deployed: Path) -> None:
    plan = plan_fleet(PATTERN, IMAGE)
    assert fleet.outputs["PlanFingerprint"] == plan.fingerprint()
    assert (deployed / f"{PATTERN}.plan.json").read_text() == plan.to_json()


def test_a_deployment_that_is_not_the_plan_is_found_out(fleet: Fleet) -> None:
    (pool,) = plan_fleet(PATTERN).pools
    smaller = replace(fleet, groups={POOL: replace(fleet.groups[POOL], max_units=8)})
    differing = [fact for fact in compare(pool, smaller) if not fact.agrees]
    assert [(fact.name, fact.planned, fact.found) for fact in differing] == [("size, units", "1 to 10", "1 to 8")]


def test_deploying_the_same_plan_again_changes_nothing(cloud: LocalCloud, deployed: Path, fleet: Fleet) -> None:
    said = run_cdk(cloud, "diff", PATTERN, "--app", str(deployed), "--fail")
    assert "There were no differences" in said


def test_an_override_updates_the_group_in_place(
    cloud: LocalCloud, fleet: Fleet, synth: Synth, reader: FleetReader
) -> None:
    overrides = {"max_instances": "6", "purchase": "on-demand"}
    deploy(cloud, synth(f"pattern={PATTERN}", *(f"{key}={value}" for key, value in overrides.items())))
    updated = reader.fleet(PATTERN)
    (pool,) = plan_fleet(PATTERN, overrides).pools
    assert updated.groups[POOL].name == fleet.groups[POOL].name
    assert updated.groups[POOL].max_units == pool.scaling.max_units < fleet.groups[POOL].max_units
    assert updated.groups[POOL].on_demand_percent_above_base == 100
    assert all(fact.agrees for fact in compare(pool, updated))


def test_a_failed_update_is_rolled_back_whole(
    cloud: LocalCloud, deployed: Path, fleet: Fleet, reader: FleetReader, tmp_path: Path
) -> None:
    broken = with_changed_template(deployed, tmp_path / "broken", break_group_after_changing_queue)
    with pytest.raises(LocalCloudError, match="Max bound, 0, must be greater than or equal to min bound"):
        deploy(cloud, broken)
    assert stack_status(cloud, PATTERN) == "UPDATE_ROLLBACK_COMPLETE"
    assert reader.fleet(PATTERN) == fleet


def break_group_after_changing_queue(resources: dict[str, Any]) -> None:
    """Change a queue, which works, then give a group a maximum below its minimum, which every cloud refuses."""
    (group,) = [one for one in resources.values() if one["Type"] == "AWS::AutoScaling::AutoScalingGroup"]
    queues = {name: one for name, one in resources.items() if "RedrivePolicy" in one.get("Properties", {})}
    for queue in queues.values():
        queue["Properties"]["VisibilityTimeout"] += 60
    group["Properties"]["MaxSize"] = "0"
    group["DependsOn"] = [*group.get("DependsOn", []), *queues]


def with_changed_template(assembly: Path, folder: Path, change: Any) -> Path:
    """A copy of the assembly with the serving template changed, and published under a key of its own."""
    shutil.copytree(assembly, folder)
    path = folder / f"{PATTERN}.template.json"
    template = json.loads(path.read_text())
    change(template["Resources"])
    path.write_text(json.dumps(template))
    assets = folder / f"{PATTERN}.assets.json"
    files = json.loads(assets.read_text())["files"]
    (key,) = [key for key, file in files.items() if file["source"]["path"] == path.name]
    for file in (assets, folder / "manifest.json"):
        file.write_text(file.read_text().replace(key, f"{key[:-6]}broken"))
    return folder
