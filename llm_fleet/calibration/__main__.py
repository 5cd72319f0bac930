"""`make calibrate`: fits configs/benchmarks/points.csv and writes configs/catalog/efficiency.yaml."""

from __future__ import annotations

import sys

from llm_fleet.calibration.calibrate import calibrate
from llm_fleet.errors import InputError

try:
    print(calibrate())
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
