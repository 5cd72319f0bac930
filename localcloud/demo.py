"""`make demo`: plan startup-mvp, deploy it with the real CDK CLI into a local cloud, show what then exists."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import FrameType

from llm_fleet.planning import FleetPlan, plan_fleet
from llm_fleet.planning.plan import PoolPlan
from llm_fleet.report import table
from localcloud.cdk import bootstrap, run_cdk
from localcloud.child import LocalCloudError
from localcloud.cloud import LocalCloud
from localcloud.comparing import Fact, compare, pool_id
from localcloud.reading import Alarm, Fleet, FleetReader
from localcloud.steps import Steps

PATTERN = "startup-mvp"
IMAGE = "none"
"""An image is built by a container engine, and the demo needs none: gateway and worker run here as processes."""
DEPLOY = ("deploy", PATTERN, "-c", f"pattern={PATTERN}", "-c", f"image={IMAGE}", "--require-approval", "never")
REJECTIONS_SHOWN = 5
NEXT_COMMANDS = (
    (".venv/bin/llm-fleet plan startup-mvp -c model=Qwen/Qwen3-8B", "the same pattern with another model"),
    (".venv/bin/llm-fleet plan enterprise-production --all", "a 70B model; every type with its reason"),
    ("make synth PATTERN=startup-mvp", "the CloudFormation that was deployed, in cdk.out"),
)


def main() -> int:
    """Run the demo; 0 if what was deployed is what was planned."""
    signal.signal(signal.SIGTERM, _unwind)
    print(f"{PATTERN}: planned, deployed into a local cloud with the CDK CLI, read back. No AWS account is touched.\n")
    try:
        plan, fleet = deploy_and_read(Steps(6))
    except LocalCloudError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    facts = {pool.role: compare(pool, fleet) for pool in plan.pools}
    print("\n".join(report(plan, fleet, facts)))
    return 0 if all(fact.agrees for pool_facts in facts.values() for fact in pool_facts) else 1


def _unwind(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that the local cloud is stopped on the way out."""
    sys.exit(128 + number)


def deploy_and_read(steps: Steps) -> tuple[FleetPlan, Fleet]:
    """The plan, and the fleet that the cloud held before it was stopped."""
    with steps.step(f"plan {PATTERN}"):
        plan = plan_fleet(PATTERN, {"image": IMAGE})
    cloud = LocalCloud(plan.region)
    with steps.step("start the local cloud on loopback"):
        cloud.start()
    with cloud:
        with steps.step("cdk bootstrap"):
            bootstrap(cloud)
        with steps.step(f"cdk {' '.join(DEPLOY)}"):
            run_cdk(cloud, *DEPLOY, "--output", str(cloud.folder / "cdk.out"))
        with steps.step("read back what exists, by the AWS API"):
            fleet = FleetReader(cloud.session(), cloud.endpoint_url).fleet(PATTERN)
        with steps.step("stop the local cloud"):
            cloud.stop()
    return plan, fleet


def report(plan: FleetPlan, fleet: Fleet, facts: dict[str, tuple[Fact, ...]]) -> Iterator[str]:
    """The lines of the report."""
    for pool in plan.pools:
        yield from _pool_lines(pool, fleet, facts[pool.role])
    expected = plan.cost.expected
    yield f"\nCost      {expected.usd_per_month:,.0f} USD a month at expected load ({plan.cost_scope}, 730 h)"
    yield f"Endpoint  {fleet.gateway_url}"
    yield f"Plan      {fleet.outputs['PlanFingerprint'][:12]}, catalogue of {fleet.outputs['CatalogDate']}"
    yield f"Mind      {len(plan.warnings)} cautions: llm-fleet plan {PATTERN} lists them"
    yield "\nTry next"
    width = max(len(command) for command, _ in NEXT_COMMANDS)
    yield from (f"  {command.ljust(width)}   # {why}" for command, why in NEXT_COMMANDS)


def _pool_lines(pool: PoolPlan, fleet: Fleet, facts: tuple[Fact, ...]) -> Iterator[str]:
    group, queue = fleet.groups[pool_id(pool.role)], fleet.queues[pool_id(pool.role)]
    yield f"\nPool {pool.role}: {pool.model}, {pool.precision}, {pool.engine.name} {pool.engine.version}"
    yield f"  group        {group.name}"
    yield f"  queue        {queue.url.rpartition('/')[2]}"
    yield f"  dead letters {queue.dead_letter_arn.rpartition(':')[2]}, after {queue.max_receives} receives\n"
    rows = [(fact.name, fact.planned, fact.found, "" if fact.agrees else "DIFFERS") for fact in facts]
    yield table(("", "planned", "in the cloud", ""), rows)
    yield "\n  Alarms"
    yield from (f"  - {alarm.name}: {_condition(alarm)}" for policy in group.policies for alarm in policy.alarms)
    yield "\n  Why"
    yield f"  - {pool.headline}"
    yield f"  - The article's {pool.guide.rule} would take {pool.guide.instance_type}: {_difference(pool)}"
    for rejected in pool.rejected[:REJECTIONS_SHOWN]:
        yield f"  - not {rejected.instance_type}: {'; '.join(reason.text for reason in rejected.reasons)}"


def _condition(alarm: Alarm) -> str:
    comparison = {"GreaterThanThreshold": ">", "GreaterThanOrEqualToThreshold": ">="}[alarm.comparison]
    lasting = f"in {alarm.breaching} of {alarm.periods} min"
    return f"{comparison} {alarm.threshold:g} {lasting}, math over {alarm.metrics} queries"


def _difference(pool: PoolPlan) -> str:
    if pool.guide.difference is None:
        return pool.guide.note
    return f"{pool.guide.difference:+,.0f} USD a month against this plan"


if __name__ == "__main__":
    sys.exit(main())
