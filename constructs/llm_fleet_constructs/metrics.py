"""Which numbers a pool has, and which expressions scaling and alarms make of them. No thresholds, no widgets.

Own metrics, namespace LlmFleet, dimensions Pattern and Pool, published by gateway and workers:

    Backlog            requests of the whole pool: messages visible in the queue + requests waiting at the gateway
    InFlight           requests of the whole pool: leased messages + requests running in engines
    TimeToFirstToken   milliseconds, one sample a request
    Workers            workers that the registry shows alive, as each gateway task reads it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch

from llm_fleet.planning.plan import StepIn
from llm_fleet_constructs.work_queue import PERIOD, WorkQueue

NAMESPACE = "LlmFleet"


@dataclass(frozen=True)
class PoolMetrics:
    """The metrics of one pool.

    Smallest use:

        metrics = PoolMetrics("startup-mvp", "cost_efficient", work, group)
        metrics.backlog_per_ordered_unit()
    """

    pattern: str
    """Pattern's name, as a dimension."""
    pool: str
    """The pool's role, as a dimension."""
    work: WorkQueue
    """Where its work waits."""
    group: autoscaling.AutoScalingGroup
    """Its instances; sizes are counted in capacity units."""

    def own_backlog(self) -> cloudwatch.Metric:
        """Requests waiting, by our own count; seconds old."""
        return self._own("Backlog", "Maximum")

    def own_in_flight(self) -> cloudwatch.Metric:
        """Requests being worked on, by our own count."""
        return self._own("InFlight", "Maximum")

    def time_to_first_token_ms(self) -> cloudwatch.Metric:
        """Mean time to first token in milliseconds; no datapoint without requests."""
        return self._own("TimeToFirstToken", "Average")

    def workers(self) -> cloudwatch.Metric:
        """Workers that the registry shows alive. All gateway tasks publish the same number: their maximum, no sum."""
        return self._own("Workers", "Maximum")

    def instances_in_service(self) -> cloudwatch.Metric:
        """Instances that serve; `units_in_service` counts the same by weight."""
        return self._group("GroupInServiceInstances")

    def unregistered_instances(self) -> cloudwatch.MathExpression:
        """Instances in service less workers alive. Negative while an instance that left the group drains.

        No point where a number is missing: a fleet deployed without gateway and workers has no Workers at all.
        """
        return cloudwatch.MathExpression(
            expression="instances - workers",
            using_metrics={"instances": self.instances_in_service(), "workers": self.workers()},
            period=PERIOD,
            label="instances without a worker",
        )

    def units_in_service(self) -> cloudwatch.Metric:
        """Capacity units that serve: the launch hook holds an instance back until it generated a token."""
        return self._group("GroupInServiceCapacity")

    def units_pending(self) -> cloudwatch.Metric:
        """Capacity units that boot."""
        return self._group("GroupPendingCapacity")

    def units_desired(self) -> cloudwatch.Metric:
        """Capacity units that the group was told to have."""
        return self._group("GroupDesiredCapacity")

    def backlog(self) -> cloudwatch.MathExpression:
        """Requests waiting: our own count, SQS's where ours is missing, nothing where both are."""
        return cloudwatch.MathExpression(
            expression="FILL(own_backlog, visible)", using_metrics=self._backlog(), period=PERIOD, label="backlog"
        )

    def backlog_per_ordered_unit(self) -> cloudwatch.MathExpression:
        """What scale-out looks at: backlog by units in service or booting, so that it falls as soon as capacity is
        ordered.

        Group metrics repeat their last value where the newest minute is late: a zero there would look like a lost
        fleet.
        """
        return cloudwatch.MathExpression(
            expression="backlog / IF(ordered < 1, 1, ordered)",
            using_metrics={"backlog": self.backlog(), "ordered": self.units_ordered()},
            period=PERIOD,
            label="backlog per ordered unit",
        )

    def units_ordered(self) -> cloudwatch.MathExpression:
        """Units in service or booting."""
        return cloudwatch.MathExpression(
            expression="FILL(in_service, REPEAT) + FILL(pending, REPEAT)",
            using_metrics={"in_service": self.units_in_service(), "pending": self.units_pending()},
            period=PERIOD,
            label="units ordered",
        )

    def waiting_at_zero(self) -> cloudwatch.MathExpression:
        """1 while work waits and no unit is in service or booting, else 0."""
        return cloudwatch.MathExpression(
            expression="IF(backlog >= 1, IF(ordered < 1, 1, 0), 0)",
            using_metrics={"backlog": self.backlog(), "ordered": self.units_ordered()},
            period=PERIOD,
            label="work waits at zero units",
        )

    def missing_units(self) -> cloudwatch.MathExpression:
        """Units that the group wants and does not have in service; weights make it negative at times."""
        return cloudwatch.MathExpression(
            expression="desired - in_service",
            using_metrics={"desired": self.units_desired(), "in_service": self.units_in_service()},
            period=PERIOD,
            label="units missing",
        )

    def unordered_units(self) -> cloudwatch.MathExpression:
        """Units that the group wants and that neither serve nor boot: EC2 refuses them."""
        return cloudwatch.MathExpression(
            expression="desired - in_service - pending",
            using_metrics={
                "desired": self.units_desired(),
                "in_service": self.units_in_service(),
                "pending": self.units_pending(),
            },
            period=PERIOD,
            label="units not ordered",
        )

    def unserved_backlog(self) -> cloudwatch.MathExpression:
        """Requests waiting while no unit serves, else 0."""
        return cloudwatch.MathExpression(
            expression="IF(serving < 1, backlog, 0)",
            using_metrics={"backlog": self.backlog(), "serving": self.units_in_service()},
            period=PERIOD,
            label="backlog without a serving unit",
        )

    def spare_after_scale_in(self, rule: StepIn) -> cloudwatch.MathExpression:
        """1 in a minute that speaks for scaling in, else 0 or no point; never 1 where backlog or in-flight work is
        unknown.

        All four must hold: backlog per serving unit below the mark; time to first token below its mark, or no request
        and no backlog (idle); in-flight work fits the units that remain; the desired size did not change in that
        minute, so that the alarm's window starts anew after each step instead of taking a unit every minute.

        Nested IFs, because AWS states their rules for missing points and not those of AND: a missing condition or
        alternative gives no point, a missing consequence gives 0. So a missing time counts as not slow at a backlog
        of zero, and as slow above it.
        """
        per_unit = f"backlog / IF(serving < 1, 1, serving) < {rule.below_backlog_per_unit}"
        mark = f"{rule.ttft_mark_ms:g}"
        slow = f"IF(backlog <= 0, IF(ttft >= {mark}, 1, 0), IF(ttft < {mark}, 0, 1))"
        fits = f"(serving - {rule.remove_units}) * {rule.in_flight_per_unit} - FILL(own_in_flight, leased) >= 0"
        changed = "FILL(ABS(DIFF(desired)), 0)"
        return cloudwatch.MathExpression(
            expression=f"IF({per_unit}, IF({slow} < 1, IF({fits}, IF({changed} > 0, 0, 1), 0), 0), 0)",
            using_metrics={
                "backlog": self.backlog(),
                "serving": self.units_in_service(),
                "desired": self.units_desired(),
                "ttft": self.time_to_first_token_ms(),
                "own_in_flight": self.own_in_flight(),
                "leased": self.work.metric_leased(),
            },
            period=PERIOD,
            label="spare capacity",
        )

    def _backlog(self) -> dict[str, cloudwatch.IMetric]:
        return {"own_backlog": self.own_backlog(), "visible": self.work.metric_visible()}

    def _own(self, name: str, statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"Pattern": self.pattern, "Pool": self.pool},
            statistic=statistic,
            period=PERIOD,
        )

    def _group(self, name: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/AutoScaling",
            metric_name=name,
            dimensions_map={"AutoScalingGroupName": self.group.auto_scaling_group_name},
            statistic="Average",
            period=PERIOD,
        )


def target_tracking_queries(
    expression: cloudwatch.MathExpression,
) -> list[autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty]:
    """A math expression in the form that a scaling policy takes: metrics and inner expressions first, the outermost
    returns data.

    Metric ids are those of `using_metrics`; the outermost expression is called `target`.
    """
    queries: list[autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty] = []
    _add_inputs(expression.using_metrics, queries)
    queries.append(_expression_query("target", expression.expression, returns=True))
    return queries


def _add_inputs(
    metrics: Mapping[str, cloudwatch.IMetric],
    queries: list[autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty],
) -> None:
    for id, metric in metrics.items():
        if isinstance(metric, cloudwatch.MathExpression):
            _add_inputs(metric.using_metrics, queries)
            queries.append(_expression_query(id, metric.expression, returns=False))
        elif isinstance(metric, cloudwatch.Metric):
            queries.append(_metric_query(id, metric))


def _expression_query(
    id: str, expression: str, *, returns: bool
) -> autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty:
    return autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty(
        id=id, expression=expression, return_data=returns
    )


def _metric_query(
    id: str, metric: cloudwatch.Metric
) -> autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty:
    dimensions = metric.dimensions or {}
    return autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty(
        id=id,
        metric_stat=autoscaling.CfnScalingPolicy.TargetTrackingMetricStatProperty(
            metric=autoscaling.CfnScalingPolicy.MetricProperty(
                namespace=metric.namespace,
                metric_name=metric.metric_name,
                dimensions=[
                    autoscaling.CfnScalingPolicy.MetricDimensionProperty(name=name, value=str(dimensions[name]))
                    for name in sorted(dimensions)
                ],
            ),
            stat=metric.statistic,
            period=int(PERIOD.to_seconds()),
        ),
        return_data=False,
    )
