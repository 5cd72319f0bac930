"""What a person must hear of. Each alarm says what happened and which runbook in docs/runbooks/ says what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs.capacity_fallback import OnDemandFallback
from llm_fleet_constructs.gateway_metrics import GatewayMetrics
from llm_fleet_constructs.interfaces import as_alarm_action
from llm_fleet_constructs.metrics import PoolMetrics

COMPLETION_WINDOW_S = 86_400
"""What a batch may take: the 24 h of OpenAI's batch interface."""
BOOT_MARGIN_MINUTES = 10
LONGEST_WINDOW_MINUTES = 1440
"""CloudWatch looks back one day at most with periods of a minute."""
REFUSED_PERCENT = 5
REFUSED_AT_LEAST = 20
"""Requests in a minute that counts: a single refusal among them is no more than the percentage above."""


def runbook(name: str) -> str:
    """Path of a runbook in the repository."""
    return f"docs/runbooks/{name}.md"


@dataclass(frozen=True)
class Watch:
    """One condition that a person must hear of."""

    id: str
    """Construct id."""
    runbook: str
    """Name of its runbook, without folder and ending."""
    happened: str
    """One sentence: what is so when it rings."""
    metric: cloudwatch.IMetric
    """What is looked at."""
    above: float
    """It rings while the metric is above this."""
    minutes: int
    """How many minutes are looked at."""
    breaching: int | None = None
    """How many of them must be above. Default: all."""


class Alarms(Construct):
    """Alarms of a subject, all into one topic. Missing data never rings: what is silent has an alarm of its own.

    Smallest use:

        Alarms(self, "ChatAlarms", topic, pool_watches(pool_plan, pool_metrics))
    """

    def __init__(self, scope: Construct, id: str, topic: sns.ITopic, watches: Sequence[Watch]) -> None:
        super().__init__(scope, id)
        self.alarms = [self._alarm(watch, topic) for watch in watches]

    def _alarm(self, watch: Watch, topic: sns.ITopic) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            watch.id,
            metric=watch.metric,
            threshold=watch.above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=watch.minutes,
            datapoints_to_alarm=watch.breaching or watch.minutes,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"{watch.happened} Runbook: {runbook(watch.runbook)}",
        )
        alarm.add_alarm_action(as_alarm_action(actions.SnsAction(topic)))
        return alarm


def pool_watches(plan: PoolPlan, metrics: PoolMetrics) -> list[Watch]:
    """What to watch in one pool."""
    boot = min(LONGEST_WINDOW_MINUTES, math.ceil(plan.scaling.launch_hook_seconds / 60) + BOOT_MARGIN_MINUTES)
    half = COMPLETION_WINDOW_S // 2
    return [
        Watch(
            id="BacklogOld",
            runbook="backlog-old",
            happened=f"Pool {plan.role}: a message waits for over {half // 3600} hours, half of what a batch may take.",
            metric=metrics.work.metric_oldest_s(),
            above=half,
            minutes=5,
        ),
        Watch(
            id="DeadLetters",
            runbook="dead-letters",
            happened=f"Pool {plan.role}: work was given up after several attempts and lies in the dead-letter queue.",
            metric=metrics.work.metric_dead_letters(),
            above=0,
            minutes=1,
        ),
        Watch(
            id="BelowDesired",
            runbook="pool-below-desired",
            happened=f"Pool {plan.role}: for {boot} minutes it lacked capacity; EC2 refuses it, or it does not boot.",
            metric=metrics.missing_units(),
            above=0,
            minutes=boot,
        ),
        Watch(
            id="NoWorkers",
            runbook="pool-without-workers",
            happened=f"Pool {plan.role}: for {boot} minutes work has waited and nothing has served it.",
            metric=metrics.unserved_backlog(),
            above=0,
            minutes=boot,
        ),
        Watch(
            id="Unregistered",
            runbook="workers-not-registered",
            happened=f"Pool {plan.role}: for {boot} minutes fewer workers registered than instances are in service.",
            metric=metrics.unregistered_instances(),
            above=0,
            minutes=boot,
        ),
        Watch(
            id="Latency",
            runbook="latency-above-mark",
            happened=f"Pool {plan.role}: the mean time to first token is above its mark of {plan.marks.ttft_ms:g} ms.",
            metric=metrics.time_to_first_token_ms(),
            above=plan.marks.ttft_ms,
            minutes=15,
            breaching=10,
        ),
    ]


def fallback_watch(role: str, fallback: OnDemandFallback) -> Watch:
    """Whether the function that replaces refused spot works: all three attempts of a run failed."""
    return Watch(
        id="FallbackErrors",
        runbook="fallback-errors",
        happened=f"Pool {role}: the function that replaces refused spot by on-demand fails.",
        metric=fallback.metric_errors(),
        above=0,
        minutes=30,
        breaching=3,
    )


def gateway_watches(metrics: GatewayMetrics, *, runs: bool) -> list[Watch]:
    """What to watch at the gateway; that nothing answers only where tasks are meant to run."""
    watches = [
        Watch(
            id="Errors",
            runbook="gateway-errors",
            happened="Gateway: more than 1 in 100 requests ended with a server error.",
            metric=metrics.error_percent(),
            above=1,
            minutes=5,
            breaching=3,
        ),
        Watch(
            id="Refusals",
            runbook="requests-refused",
            happened=f"Gateway: in 10 of 15 minutes over {REFUSED_PERCENT} in 100 requests got 429 or 503.",
            metric=metrics.refused_percent(at_least=REFUSED_AT_LEAST),
            above=REFUSED_PERCENT,
            minutes=15,
            breaching=10,
        ),
        Watch(
            id="Unhealthy",
            runbook="gateway-unhealthy",
            happened="Gateway: a task fails its health check.",
            metric=metrics.unhealthy_tasks(),
            above=0,
            minutes=5,
        ),
    ]
    if runs:
        watches.append(
            Watch(
                id="Down",
                runbook="gateway-down",
                happened="Gateway: no task is healthy, so nobody is served.",
                metric=metrics.nothing_healthy(),
                above=0,
                minutes=3,
            )
        )
    return watches
