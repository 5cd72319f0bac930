"""Deployment patterns: YAML in, a checked frozen Pattern out.

schema.py      the shape of a pattern file
load.py        by name or path, every mistake with its line
overrides.py   -c key=value, applied to a pattern
"""

from llm_fleet.patterns.load import load_pattern, pattern_names
from llm_fleet.patterns.overrides import OVERRIDE_KEYS, Overrides, parse_overrides
from llm_fleet.patterns.schema import Pattern

__all__ = ["OVERRIDE_KEYS", "Overrides", "Pattern", "load_pattern", "parse_overrides", "pattern_names"]
