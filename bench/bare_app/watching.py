"""Alarms, budget and dashboard."""

from __future__ import annotations

from typing import cast

from aws_cdk import Duration
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from bench.bare_app.fallback import Fallback
from bench.bare_app.foundation import FoundationStack
from bench.bare_app.gateway import Gateway
from bench.bare_app.pool import MINUTE, Pool


class Watching(Construct):
    """What people hear of, and what they look at."""

    def __init__(
        self, scope: Construct, foundation: FoundationStack, pool: Pool, gateway: Gateway, fallback: Fallback
    ) -> None:
        super().__init__(scope, "Watching")
        self._make_topic(foundation)
        self._make_gateway_metrics(gateway)
        self._alarms: list[cloudwatch.IAlarm] = []
        self._watch_gateway()
        self._watch_pool(pool)
        self._alarm(
            "FallbackErrors",
            fallback.function.metric_errors(statistic="Sum", period=MINUTE),
            above=0,
            minutes=30,
            breaching=3,
            description="Pool cost_efficient: the function that replaces refused spot by on-demand fails.",
        )
        self._make_budget()
        self._make_dashboard(pool)

    def _make_topic(self, foundation: FoundationStack) -> None:
        self._topic = sns.Topic(self, "Topic", master_key=foundation.key, enforce_ssl=True)
        alarms = f"arn:{foundation.partition}:cloudwatch:{foundation.region}:{foundation.account}:alarm:*"
        senders = {
            "cloudwatch.amazonaws.com": {"ArnLike": {"aws:SourceArn": alarms}},
            "budgets.amazonaws.com": {"StringEquals": {"aws:SourceAccount": foundation.account}},
        }
        for service, conditions in senders.items():
            self._topic.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[cast(iam.IPrincipal, iam.ServicePrincipal(service))],
                    actions=["sns:Publish"],
                    resources=[self._topic.topic_arn],
                    conditions=conditions,
                )
            )

    def _make_gateway_metrics(self, gateway: Gateway) -> None:
        balancer, tasks = gateway.load_balancer.metrics, gateway.target_group.metrics
        self._requests = balancer.request_count(statistic="Sum", period=MINUTE)
        self._balancer_errors = balancer.http_code_elb(elbv2.HttpCodeElb.ELB_5XX_COUNT, statistic="Sum", period=MINUTE)
        self._task_errors = tasks.http_code_target(
            elbv2.HttpCodeTarget.TARGET_5XX_COUNT, statistic="Sum", period=MINUTE
        )
        self._answer_time = tasks.target_response_time(statistic="p99", period=MINUTE)
        self._unhealthy_tasks = tasks.unhealthy_host_count(statistic="Maximum", period=MINUTE)
        self._healthy_tasks = tasks.healthy_host_count(statistic="Minimum", period=MINUTE)
        self._refused = _refusal_metric("Refused")
        self._refused_by_reason = cloudwatch.MathExpression(
            expression="""SEARCH('{LlmFleet,Pattern,Reason} MetricName="Refused" Pattern="startup-mvp"', 'Sum', 60)""",
            using_metrics={},
            period=MINUTE,
            label="",
        )
        self._cpu = gateway.service.metric_cpu_utilization(period=MINUTE)

    def _watch_gateway(self) -> None:
        error_percent = cloudwatch.MathExpression(
            expression="100 * (FILL(task_errors, 0) + FILL(balancer_errors, 0)) / requests",
            using_metrics={
                "task_errors": self._task_errors,
                "balancer_errors": self._balancer_errors,
                "requests": self._requests,
            },
            period=MINUTE,
            label="server errors, percent",
        )
        self._alarm(
            "GatewayErrors",
            error_percent,
            above=1,
            minutes=5,
            breaching=3,
            description="Gateway: more than 1 in 100 requests ended with a server error.",
        )
        over_limit = _refusal_metric("Refused", "rate_limit_exceeded")
        within = cloudwatch.MathExpression(
            expression="asked - FILL(over_limit, 0)",
            using_metrics={"asked": _refusal_metric("Requests"), "over_limit": over_limit},
            period=MINUTE,
            label="requests within limits",
        )
        self._alarm(
            "GatewayRefusals",
            cloudwatch.MathExpression(
                expression="IF(within >= 20, 100 * (FILL(refused, 0) - FILL(over_limit, 0)) / within, 0)",
                using_metrics={"within": within, "refused": self._refused, "over_limit": over_limit},
                period=MINUTE,
                label="refused, percent",
            ),
            above=5,
            minutes=15,
            breaching=10,
            description="Gateway: in 10 of 15 minutes over 5 in 100 requests got 429 or 503.",
        )
        self._alarm(
            "GatewayUnhealthy",
            self._unhealthy_tasks,
            above=0,
            minutes=5,
            description="Gateway: a task fails its health check.",
        )

        self._alarm(
            "GatewayDown",
            cloudwatch.MathExpression(
                expression="IF(healthy < 1, 1, 0)",
                using_metrics={"healthy": self._healthy_tasks},
                period=MINUTE,
                label="no healthy task",
            ),
            above=0,
            minutes=3,
            description="Gateway: no task is healthy, so nobody is served.",
        )

    def _watch_pool(self, pool: Pool) -> None:
        self._alarm(
            "BacklogOld",
            pool.queue.metric_approximate_age_of_oldest_message(statistic="Maximum", period=MINUTE),
            above=43200,
            minutes=5,
            description="Pool cost_efficient: a message waits for over 12 hours, half of what a batch may take.",
        )
        self._dead_letters = pool.dead_letters.metric_approximate_number_of_messages_visible(
            statistic="Maximum", period=MINUTE
        )
        self._alarm(
            "DeadLetters",
            self._dead_letters,
            above=0,
            minutes=1,
            description="Pool cost_efficient: work was given up after several attempts, in the dead-letter queue.",
        )
        self._alarm(
            "BelowDesired",
            cloudwatch.MathExpression(
                expression="desired - in_service",
                using_metrics={"desired": pool.desired, "in_service": pool.in_service},
                period=MINUTE,
                label="units missing",
            ),
            above=0,
            minutes=40,
            description="Pool cost_efficient: for 40 minutes it lacked capacity; EC2 refuses it, or it does not boot.",
        )
        self._alarm(
            "NoWorkers",
            cloudwatch.MathExpression(
                expression="IF(serving < 1, backlog, 0)",
                using_metrics={"backlog": pool.backlog, "serving": pool.in_service},
                period=MINUTE,
                label="backlog without a serving unit",
            ),
            above=0,
            minutes=40,
            description="Pool cost_efficient: for 40 minutes work has waited and nothing has served it.",
        )
        self._alarm(
            "Unregistered",
            cloudwatch.MathExpression(
                expression="instances - workers",
                using_metrics={"instances": pool.instances, "workers": pool.workers},
                period=MINUTE,
                label="instances without a worker",
            ),
            above=0,
            minutes=40,
            description="Pool cost_efficient: for 40 minutes instances were in service and not registered.",
        )
        self._alarm(
            "Latency",
            pool.time_to_first_token,
            above=1500,
            minutes=15,
            breaching=10,
            description="Pool cost_efficient: the mean time to first token is above its mark of 1500 ms.",
        )

    def _alarm(
        self,
        id: str,
        metric: cloudwatch.IMetric,
        *,
        above: float,
        minutes: int,
        description: str,
        breaching: int | None = None,
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=minutes,
            datapoints_to_alarm=breaching or minutes,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=description,
        )
        action = actions.SnsAction(cast(sns.ITopic, self._topic))
        alarm.add_alarm_action(cast(cloudwatch.IAlarmAction, action))
        self._alarms.append(alarm)

    def _make_budget(self) -> None:
        subscriber = budgets.CfnBudget.SubscriberProperty(address=self._topic.topic_arn, subscription_type="SNS")
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=2000, unit="USD"),
                cost_filters={"TagKeyValue": ["user:llm-fleet:pattern$startup-mvp"]},
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        notification_type=kind,
                        comparison_operator="GREATER_THAN",
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[subscriber],
                )
                for kind, percent in (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))
            ],
        )

    def _make_dashboard(self, pool: Pool) -> None:
        dashboard = cloudwatch.Dashboard(self, "Dashboard", default_interval=Duration.hours(6))
        title = "# startup-mvp: One pool for a first product, one on-demand instance and spot above it."
        dashboard.add_widgets(cloudwatch.TextWidget(markdown=title, width=24, height=2))
        dashboard.add_widgets(cloudwatch.AlarmStatusWidget(title="Alarms", alarms=self._alarms, width=24, height=3))
        dashboard.add_widgets(
            _graph("Gateway: requests and refusals a minute", [self._requests], right=[self._refused_by_reason]),
            _graph("Gateway: server errors", [self._task_errors, self._balancer_errors]),
            _graph("Gateway: seconds to answer, p99", [self._answer_time]),
            _graph("Gateway: tasks and CPU", [self._healthy_tasks, self._unhealthy_tasks], right=[self._cpu]),
        )
        dashboard.add_widgets(
            _graph(
                "cost_efficient: backlog per ordered unit",
                [pool.backlog_per_ordered_unit],
                marks={"step in below": 5, "target": 10, "+2 above": 50},
            ),
            _graph(
                "cost_efficient: capacity units, and workers",
                [pool.in_service, pool.pending, pool.desired],
                right=[pool.instances, pool.workers],
                marks={"largest": 10},
            ),
            _graph(
                "cost_efficient: requests waiting and running",
                [pool.own_backlog, pool.visible, pool.own_in_flight, pool.leased],
                right=[self._dead_letters],
            ),
            _graph(
                "cost_efficient: ms to first token",
                [pool.time_to_first_token],
                marks={"mark": 1500, "step in below": 289.1},
            ),
        )


def _graph(
    title: str,
    left: list[cloudwatch.IMetric],
    *,
    right: list[cloudwatch.IMetric] | None = None,
    marks: dict[str, float] | None = None,
) -> cloudwatch.GraphWidget:
    lines = [cloudwatch.HorizontalAnnotation(value=value, label=label) for label, value in (marks or {}).items()]
    return cloudwatch.GraphWidget(title=title, left=left, right=right or [], left_annotations=lines, width=6, height=6)


def _refusal_metric(name: str, reason: str = "") -> cloudwatch.Metric:
    dimensions = {"Pattern": "startup-mvp"} | ({"Reason": reason} if reason else {})
    return cloudwatch.Metric(
        namespace="LlmFleet", metric_name=name, dimensions_map=dimensions, statistic="Sum", period=MINUTE
    )
