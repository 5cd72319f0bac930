"""Which numbers the gateway has. No thresholds, no widgets.

Own metrics, namespace LlmFleet, dimension Pattern, published by each gateway task of what it answered itself:

    Requests   requests to models, of whoever has a key
    Refused    those answered 429 or 503; once in all, and once more with the dimension Reason
"""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2

from llm_fleet_constructs.metrics import NAMESPACE
from llm_fleet_constructs.work_queue import PERIOD

OVER_A_KEYS_LIMIT = "rate_limit_exceeded"
"""Reason of refusals that the fleet's size has no part in."""


@dataclass(frozen=True)
class GatewayMetrics:
    """The metrics of the gateway's load balancer and service.

    Smallest use:

        GatewayMetrics("mine", gateway.load_balancer, gateway.target_group, gateway.service).error_percent()
    """

    pattern: str
    """Pattern's name, as a dimension."""
    load_balancer: elbv2.ApplicationLoadBalancer
    """In front of the tasks."""
    target_group: elbv2.ApplicationTargetGroup
    """Its tasks."""
    service: ecs.BaseService
    """What runs them."""

    def requests(self) -> cloudwatch.Metric:
        """Requests a minute."""
        return self.load_balancer.metrics.request_count(statistic="Sum", period=PERIOD)

    def task_errors(self) -> cloudwatch.Metric:
        """Answers 5xx a minute that a task gave."""
        return self.target_group.metrics.http_code_target(
            elbv2.HttpCodeTarget.TARGET_5XX_COUNT, statistic="Sum", period=PERIOD
        )

    def balancer_errors(self) -> cloudwatch.Metric:
        """Answers 5xx a minute that the load balancer gave itself, having no task that answered."""
        return self.load_balancer.metrics.http_code_elb(elbv2.HttpCodeElb.ELB_5XX_COUNT, statistic="Sum", period=PERIOD)

    def answer_time_s(self) -> cloudwatch.Metric:
        """Seconds until a task began to answer, the slowest in a hundred."""
        return self.target_group.metrics.target_response_time(statistic="p99", period=PERIOD)

    def unhealthy_tasks(self) -> cloudwatch.Metric:
        """Tasks that fail their health check."""
        return self.target_group.metrics.unhealthy_host_count(statistic="Maximum", period=PERIOD)

    def healthy_tasks(self) -> cloudwatch.Metric:
        """Tasks that pass it."""
        return self.target_group.metrics.healthy_host_count(statistic="Minimum", period=PERIOD)

    def cpu_percent(self) -> cloudwatch.Metric:
        """Mean CPU of the tasks."""
        return self.service.metric_cpu_utilization(period=PERIOD)

    def error_percent(self) -> cloudwatch.MathExpression:
        """Share of requests that ended with a server error; error counts are absent in a minute without any."""
        return cloudwatch.MathExpression(
            expression="100 * (FILL(task_errors, 0) + FILL(balancer_errors, 0)) / requests",
            using_metrics={
                "task_errors": self.task_errors(),
                "balancer_errors": self.balancer_errors(),
                "requests": self.requests(),
            },
            period=PERIOD,
            label="server errors, percent",
        )

    def model_requests(self) -> cloudwatch.Metric:
        """Requests to models a minute."""
        return self._own("Requests")

    def refused(self) -> cloudwatch.Metric:
        """Those of them a minute that were answered 429 or 503."""
        return self._own("Refused")

    def refused_by_reason(self) -> cloudwatch.MathExpression:
        """The same, a line for each reason that occurred. For graphs only: no alarm may search."""
        wanted = f'{{{NAMESPACE},Pattern,Reason}} MetricName="Refused" Pattern="{self.pattern}"'
        return cloudwatch.MathExpression(
            expression=f"SEARCH('{wanted}', 'Sum', {PERIOD.to_seconds():g})", using_metrics={}, period=PERIOD, label=""
        )

    def refused_percent(self, at_least: int) -> cloudwatch.MathExpression:
        """Share of requests that the fleet refused, 0 in a minute with fewer than `at_least` of them.

        What a key's own limit refuses is left out above and below: a client that tries on and on would else ring, or
        hide what the others get.
        """
        within = cloudwatch.MathExpression(
            expression="asked - FILL(over_limit, 0)",
            using_metrics={"asked": self.model_requests(), "over_limit": self._own("Refused", OVER_A_KEYS_LIMIT)},
            period=PERIOD,
            label="requests within limits",
        )
        return cloudwatch.MathExpression(
            expression=f"IF(within >= {at_least}, 100 * (FILL(refused, 0) - FILL(over_limit, 0)) / within, 0)",
            using_metrics={
                "within": within,
                "refused": self.refused(),
                "over_limit": self._own("Refused", OVER_A_KEYS_LIMIT),
            },
            period=PERIOD,
            label="refused, percent",
        )

    def nothing_healthy(self) -> cloudwatch.MathExpression:
        """1 while no task is healthy, else 0."""
        return cloudwatch.MathExpression(
            expression="IF(healthy < 1, 1, 0)",
            using_metrics={"healthy": self.healthy_tasks()},
            period=PERIOD,
            label="no healthy task",
        )

    def _own(self, name: str, reason: str = "") -> cloudwatch.Metric:
        dimensions = {"Pattern": self.pattern} | ({"Reason": reason} if reason else {})
        return cloudwatch.Metric(
            namespace=NAMESPACE, metric_name=name, dimensions_map=dimensions, statistic="Sum", period=PERIOD
        )
