"""`python -m bench.bare_app`: the assembly goes where CDK_OUTDIR says, else into a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path

from bench.bare_app.stacks import build_app

CDK_JSON = Path(__file__).parents[2] / "cdk.json"

build_app(json.loads(CDK_JSON.read_text(encoding="utf-8"))["context"]).synth()
