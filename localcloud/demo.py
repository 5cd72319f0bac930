"""`make demo`: plan startup-mvp, deploy it with the real CDK CLI into a local cloud, show what then exists, and send
requests through gateway, worker and a small engine that run on what was deployed.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from llm_fleet.planning import FleetPlan, plan_fleet
from llm_fleet.planning.plan import PoolPlan
from llm_fleet.report import table
from localcloud.cdk import bootstrap, run_cdk
from localcloud.child import LocalCloudError
from localcloud.cloud import LocalCloud
from localcloud.comparing import Fact, compare, pool_id
from localcloud.cpu_engine import MODEL
from localcloud.demo_requests import BATCH, Answer, BatchAnswers, batch, chat, open_client, streamed_chat
from localcloud.loopback_fleet import LoopbackFleet
from localcloud.reading import Alarm, Fleet, FleetReader
from localcloud.settings_documents import deployed_documents
from localcloud.steps import Steps

PATTERN = "startup-mvp"
IMAGE = "none"
"""An image is built by a container engine, and the demo needs none: gateway and worker run here as processes."""
DEPLOY = ("deploy", PATTERN, "-c", f"pattern={PATTERN}", "-c", f"image={IMAGE}", "--require-approval", "never")
REJECTIONS_SHOWN = 5
NEXT_COMMANDS = (
    (".venv/bin/llm-fleet dev", "the same services without a deploy, until Ctrl-C"),
    (".venv/bin/llm-fleet plan startup-mvp -c model=Qwen/Qwen3-8B", "the same pattern with another model"),
    ("make synth PATTERN=startup-mvp", "the CloudFormation that was deployed, in cdk.out"),
)


@dataclass(frozen=True)
class Answers:
    """What the fleet answered."""

    chat: Answer
    streamed: Answer
    batched: BatchAnswers


def main() -> int:
    """Run the demo; 0 if what was deployed is what was planned."""
    signal.signal(signal.SIGTERM, _unwind)
    print(f"{PATTERN}: planned, deployed into a local cloud with the CDK CLI, read back. No AWS account is touched.")
    print("image=none: here gateway and worker run from this folder; on AWS their image is built at deploy.\n")
    try:
        plan, fleet, answers = deploy_and_ask(Steps(12))
    except LocalCloudError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    facts = {pool.role: compare(pool, fleet) for pool in plan.pools}
    print("\n".join((*report(plan, fleet, facts), *answer_lines(plan, answers), *next_lines())))
    return 0 if all(fact.agrees for pool_facts in facts.values() for fact in pool_facts) else 1


def _unwind(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that the local cloud is stopped on the way out."""
    sys.exit(128 + number)


def deploy_and_ask(steps: Steps) -> tuple[FleetPlan, Fleet, Answers]:
    """The plan, the fleet that the cloud held before it was stopped, and what was answered from it."""
    with steps.step(f"plan {PATTERN}"):
        plan = plan_fleet(PATTERN, {"image": "none"})
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
            documents = deployed_documents(cloud, PATTERN)
        with LoopbackFleet(cloud, documents) as services:
            answers = _ask(services, steps)
            with steps.step("stop all of it"):
                services.stop()
                cloud.stop()
    return plan, fleet, answers


def _ask(services: LoopbackFleet, steps: Steps) -> Answers:
    with steps.step(f"start llama.cpp with {MODEL} on CPU"):
        engines = services.start_engines()
    with steps.step("start the worker with the deployed pool's settings"):
        services.start_workers(engines)
    with steps.step("start the gateway with its deployed settings, ask for a first token"):
        services.start_gateway()
        api_key = services.make_key("demo")
        services.wait_for_first_answer(api_key)
    (model,) = services.models()
    with open_client(services.base_url, api_key) as client:
        with steps.step("openai client: chat with service_tier=priority"):
            answer = chat(client, model)
        with steps.step("openai client: streamed chat"):
            streamed = streamed_chat(client, model)
        with steps.step(f"openai client: batch of {len(BATCH)} lines through S3, SQS and DynamoDB"):
            batched = batch(client, model)
    return Answers(answer, streamed, batched)


def report(plan: FleetPlan, fleet: Fleet, facts: dict[str, tuple[Fact, ...]]) -> Iterator[str]:
    """The lines of the report."""
    for pool in plan.pools:
        yield from _pool_lines(pool, fleet, facts[pool.role])
    expected = plan.cost.expected
    yield f"\nCost      {expected.usd_per_month:,.0f} USD a month at expected load ({plan.cost_scope}, 730 h)"
    yield f"Endpoint  {fleet.gateway_url}"
    yield f"Plan      {fleet.outputs['PlanFingerprint'][:12]}, catalogue of {fleet.outputs['CatalogDate']}"
    yield f"Mind      {len(plan.warnings)} cautions: llm-fleet plan {PATTERN} lists them"


def answer_lines(plan: FleetPlan, answers: Answers) -> Iterator[str]:
    """What was answered, from which pool and why, how fast and for how much."""
    yield f"\nAnswers, by {MODEL} on this machine's CPU in place of the pool's model"
    for name, answer in (("chat", answers.chat), ("streamed", answers.streamed)):
        first = f", first token after {answer.first_token_seconds:.2f} s" if answer.first_token_seconds else ""
        yield f"  {name:9}{answer.question} -> {' '.join(answer.text.split())}"
        yield f"           pool {answer.pool}, because {answer.reason}; at most {answer.cost_at_most_usd} USD"
        yield f"           {_speed(answer.tokens, answer.seconds)}{first}"
    batched = answers.batched
    yield f"  batch    {batched.status}: {batched.completed} lines completed, {batched.failed} failed"
    yield from (f"           {custom_id} -> {' '.join(text.split())}" for custom_id, text in batched.lines)
    yield f"           {batched.tokens} tokens in {batched.seconds:.1f} s from upload to output file"
    price = plan.pools[0].cost.expected.usd_per_million_output_tokens
    tokens = answers.chat.tokens + answers.streamed.tokens + batched.tokens
    if price is not None:
        usd = tokens * price / 1e6
        yield f"  cost     {tokens} tokens in all: {usd:.6f} USD, at the plan's {price:.2f} USD per million"


def _speed(tokens: int, seconds: float) -> str:
    return f"{tokens} tokens in {seconds:.1f} s, {tokens / seconds:.0f} tokens/s"


def next_lines() -> Iterator[str]:
    """What to run after the demo."""
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
