"""One page to look at: the gateway, then a row for each pool with its marks drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs.gateway_metrics import GatewayMetrics
from llm_fleet_constructs.metrics import PoolMetrics

WIDTH, HEIGHT = 6, 6
"""Of a graph; a row holds four."""


@dataclass(frozen=True)
class FleetDashboardProps:
    """Of FleetDashboard."""

    title: str
    """Heading: the pattern's name and what the plan says of it."""
    gateway: GatewayMetrics
    """First row."""
    pools: Sequence[tuple[PoolPlan, PoolMetrics]]
    """A row each."""
    alarms: Sequence[cloudwatch.Alarm]
    """Shown as a list of states on top."""


class FleetDashboard(Construct):
    """The fleet's dashboard.

    Smallest use:

        FleetDashboard(self, "Dashboard", FleetDashboardProps("startup-mvp", gateway_metrics, [(plan, metrics)],
        alarms))
    """

    def __init__(self, scope: Construct, id: str, props: FleetDashboardProps) -> None:
        super().__init__(scope, id)
        self.dashboard = cloudwatch.Dashboard(self, "Resource", default_interval=Duration.hours(6))
        self.dashboard.add_widgets(cloudwatch.TextWidget(markdown=f"# {props.title}", width=24, height=2))
        self.dashboard.add_widgets(
            cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(props.alarms), width=24, height=3)
        )
        self.dashboard.add_widgets(*_gateway_row(props.gateway))
        for plan, metrics in props.pools:
            self.dashboard.add_widgets(*_pool_row(plan, metrics))


def _gateway_row(metrics: GatewayMetrics) -> list[cloudwatch.IWidget]:
    return [
        _graph("Gateway: requests and refusals a minute", [metrics.requests()], right=[metrics.refused_by_reason()]),
        _graph("Gateway: server errors", [metrics.task_errors(), metrics.balancer_errors()]),
        _graph("Gateway: seconds to answer, p99", [metrics.answer_time_s()]),
        _graph(
            "Gateway: tasks and CPU",
            [metrics.healthy_tasks(), metrics.unhealthy_tasks()],
            right=[metrics.cpu_percent()],
        ),
    ]


def _pool_row(plan: PoolPlan, metrics: PoolMetrics) -> list[cloudwatch.IWidget]:
    rules = plan.scaling
    marks = [
        _mark(rules.step_in.below_backlog_per_unit, "step in below"),
        _mark(rules.target_backlog_per_unit, "target"),
        *(_mark(step.above_backlog_per_unit, f"+{step.add_units} above") for step in rules.steps_out[:1]),
    ]
    registered = [metrics.instances_in_service(), metrics.workers()]
    sizes = [metrics.units_in_service(), metrics.units_pending(), metrics.units_desired()]
    work = [metrics.own_backlog(), metrics.work.metric_visible(), metrics.own_in_flight(), metrics.work.metric_leased()]
    return [
        _graph(f"{plan.role}: backlog per ordered unit", [metrics.backlog_per_ordered_unit()], marks=marks),
        _graph(
            f"{plan.role}: capacity units, and workers",
            sizes,
            right=registered,
            marks=[_mark(rules.max_units, "largest")],
        ),
        _graph(f"{plan.role}: requests waiting and running", work, right=[metrics.work.metric_dead_letters()]),
        _graph(
            f"{plan.role}: ms to first token",
            [metrics.time_to_first_token_ms()],
            marks=[_mark(plan.marks.ttft_ms, "mark"), _mark(rules.step_in.ttft_mark_ms, "step in below")],
        ),
    ]


def _graph(
    title: str,
    left: Sequence[cloudwatch.IMetric],
    *,
    right: Sequence[cloudwatch.IMetric] = (),
    marks: list[cloudwatch.HorizontalAnnotation] | None = None,
) -> cloudwatch.IWidget:
    return cloudwatch.GraphWidget(
        title=title, left=list(left), right=list(right), left_annotations=marks or [], width=WIDTH, height=HEIGHT
    )


def _mark(value: float, label: str) -> cloudwatch.HorizontalAnnotation:
    return cloudwatch.HorizontalAnnotation(value=value, label=label)
