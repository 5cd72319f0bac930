"""What EC2 sells for serving models, which engine runs on it, and how fast: configs/catalog as frozen values.

types.py     the values
load.py      files -> Catalog, every wrong cell named by file, line and column
verify.py    checks that need the whole picture
"""

from llm_fleet.catalog.load import load_catalog
from llm_fleet.catalog.types import (
    Accelerator,
    Catalog,
    Engine,
    InstanceType,
    PrecisionSupport,
    Price,
    Source,
)

__all__ = [
    "Accelerator",
    "Catalog",
    "Engine",
    "InstanceType",
    "PrecisionSupport",
    "Price",
    "Source",
    "load_catalog",
]
