"""What the fleet may cost a month, and who hears when it costs more."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_sns as sns
from constructs import Construct

PATTERN_TAG = "llm-fleet:pattern"
RUNBOOK = "docs/runbooks/budget.md"


@dataclass(frozen=True)
class FleetBudgetProps:
    """Of FleetBudget."""

    pattern: str
    """Value of the tag llm-fleet:pattern, which everything of the fleet carries."""
    usd_per_month: int
    """The limit."""
    topic: sns.ITopic
    """Who hears."""


class FleetBudget(Construct):
    """A monthly cost budget over everything tagged with the pattern: at 80 % and 100 % spent, and when 100 % is
    forecast.

    Smallest use:

        FleetBudget(self, "Budget", FleetBudgetProps(pattern="startup-mvp", usd_per_month=800, topic=topic))

    The tag counts only once it is activated as a cost allocation tag in the paying account: docs/runbooks/budget.md.
    """

    def __init__(self, scope: Construct, id: str, props: FleetBudgetProps) -> None:
        super().__init__(scope, id)
        subscriber = budgets.CfnBudget.SubscriberProperty(address=props.topic.topic_arn, subscription_type="SNS")
        self.resource = budgets.CfnBudget(
            self,
            "Resource",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=props.usd_per_month, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:{PATTERN_TAG}${props.pattern}"]},
            ),
            notifications_with_subscribers=[
                _notification("ACTUAL", 80, subscriber),
                _notification("ACTUAL", 100, subscriber),
                _notification("FORECASTED", 100, subscriber),
            ],
        )


def _notification(
    kind: str, percent: int, subscriber: budgets.CfnBudget.SubscriberProperty
) -> budgets.CfnBudget.NotificationWithSubscribersProperty:
    return budgets.CfnBudget.NotificationWithSubscribersProperty(
        notification=budgets.CfnBudget.NotificationProperty(
            notification_type=kind, comparison_operator="GREATER_THAN", threshold=percent, threshold_type="PERCENTAGE"
        ),
        subscribers=[subscriber],
    )
