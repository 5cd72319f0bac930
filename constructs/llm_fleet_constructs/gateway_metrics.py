"""Which numbers the gateway has. No thresholds, no widgets."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2

from llm_fleet_constructs.work_queue import PERIOD


@dataclass(frozen=True)
class GatewayMetrics:
    """The metrics of the gateway's load balancer and service.

    Smallest use:

        GatewayMetrics(gateway.load_balancer, gateway.target_group, gateway.service).error_percent()
    """

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

    def nothing_healthy(self) -> cloudwatch.MathExpression:
        """1 while no task is healthy, else 0."""
        return cloudwatch.MathExpression(
            expression="IF(healthy < 1, 1, 0)",
            using_metrics={"healthy": self.healthy_tasks()},
            period=PERIOD,
            label="no healthy task",
        )
