"""Plans and catalogue rows as text. Prints values; computes nothing that a plan does not hold."""

from llm_fleet.report.plan_text import plan_text
from llm_fleet.report.table import table

__all__ = ["plan_text", "table"]
