"""AWS::Budgets::Budget, on ministack's own budgets service."""

from ministack.services import budgets

from localcloud.emulator.registry import Created, Properties, accepted, physical_name, register


def install() -> None:
    """Register the type."""
    register("AWS::Budgets::Budget", create, delete)


def create(logical_id: str, properties: Properties, stack: str) -> Created:
    """Ref is the budget's name."""
    budget = {"BudgetName": physical_name(stack, logical_id), **properties["Budget"]}
    if "BudgetLimit" in budget:
        limit = budget["BudgetLimit"]
        budget["BudgetLimit"] = {"Amount": str(limit["Amount"]), "Unit": limit["Unit"]}
    request = {"Budget": budget, "NotificationsWithSubscribers": properties.get("NotificationsWithSubscribers", [])}
    if budget["BudgetName"] in budgets._notification_store:
        delete(budget["BudgetName"], properties)
    accepted(budgets._create_budget(request))
    return budget["BudgetName"], {}


def delete(name: str, properties: Properties) -> None:
    """Forget the budget; one that is gone already is no error."""
    if name in budgets._notification_store:
        accepted(budgets._delete_budget({"BudgetName": name}))
