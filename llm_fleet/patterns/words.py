"""The closed words of a pattern."""

from typing import Literal, get_args

Role = Literal["high_performance", "cost_efficient", "batch_processing"]
Usage = Literal["office-hours", "overnight", "steady"]
PurchaseKind = Literal["on-demand", "spot", "mixed"]

ROLES: tuple[Role, ...] = get_args(Role)
PURCHASE_KINDS: tuple[PurchaseKind, ...] = get_args(PurchaseKind)
