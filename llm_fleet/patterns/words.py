"""The closed words of a pattern."""

from typing import Literal, get_args

Role = Literal["high_performance", "cost_efficient", "batch_processing"]
Usage = Literal["office-hours", "overnight", "steady"]
PurchaseKind = Literal["on-demand", "spot", "mixed"]
KvPrecision = Literal["auto", "fp8"]
Sizing = Literal["cautious", "bold"]

ROLES: tuple[Role, ...] = get_args(Role)
IMAGE_BUILD = "build"
"""Instead of an image's URI: built from the Dockerfile as the stack is deployed."""
IMAGE_NONE = "none"
"""Instead of an image's URI: neither gateway nor workers run."""
IMAGE_PATTERN = rf"^({IMAGE_BUILD}|{IMAGE_NONE}|[A-Za-z0-9][A-Za-z0-9._-]*[/:][A-Za-z0-9._:/@-]+)$"
"""A URI has a slash or a colon, so that a misspelt word is not taken for one."""

PURCHASE_KINDS: tuple[PurchaseKind, ...] = get_args(PurchaseKind)
KV_PRECISIONS: tuple[KvPrecision, ...] = get_args(KvPrecision)
SIZINGS: tuple[Sizing, ...] = get_args(Sizing)
