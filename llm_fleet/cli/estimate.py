"""`llm-fleet estimate`: what one configuration would do, or every row of a file of configurations."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from llm_fleet.catalog import load_catalog
from llm_fleet.errors import InputError, Problem, unknown_choice
from llm_fleet.models import load_models
from llm_fleet.sizing.case import Setup
from llm_fleet.sizing.forecast import Forecast, Shape, device_of, evidence_of, forecast, refusal, setup_on
from llm_fleet.sizing.traits import BITS_PER_WEIGHT

NEAREST = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options as typed; None where not given."""

    model: str | None
    instance: str | None
    tensor_parallel: str | None
    precision: str | None
    input_tokens: str
    output_tokens: str
    concurrency: str | None
    rate: str | None


def single(wanted: Wanted, as_json: bool) -> str:
    """The answer for one configuration: its figures, or why it does not fit.

    Raises:
        InputError: an option that is missing, unknown or out of range.
    """
    setup, shape, concurrency, rate = _resolved(wanted)
    reason = refusal(setup, shape)
    found = None if reason else forecast(setup, shape, concurrency, rate)
    nearest = _nearest(setup, shape, concurrency)
    if as_json:
        return json.dumps(_as_data(setup, shape, found, reason, nearest), indent=2)
    return _as_text(wanted, setup, shape, found, reason, nearest)


def _resolved(wanted: Wanted) -> tuple[Setup, Shape, float | None, float | None]:
    problems: list[Problem] = []
    for option, given in (("--model", wanted.model), ("--instance", wanted.instance)):
        if not given:
            problems.append(Problem(option, "must be given, or --points FILE in its place"))
    if wanted.concurrency and wanted.rate:
        problems.append(Problem("--rate", "cannot stand beside --concurrency: give one of them"))
    inputs = _number("--input", wanted.input_tokens, problems)
    outputs = _number("--output", wanted.output_tokens, problems)
    concurrency = _number("--concurrency", wanted.concurrency, problems) if wanted.concurrency else None
    rate = _number("--rate", wanted.rate, problems) if wanted.rate else None
    degree = _number("--tp", wanted.tensor_parallel, problems) if wanted.tensor_parallel else None
    types = load_catalog().instance_types
    if wanted.instance and wanted.instance not in types:
        problems.append(unknown_choice("--instance", "instance type", wanted.instance, types))
    if wanted.precision and wanted.precision not in BITS_PER_WEIGHT:
        problems.append(unknown_choice("--precision", "precision", wanted.precision, BITS_PER_WEIGHT))
    if problems or not wanted.model or not wanted.instance:
        raise InputError(problems)
    model = load_models().resolve(wanted.model, "--model")
    kind = types[wanted.instance]
    device = device_of(kind)
    if device is None:
        raise InputError(Problem("--instance", "carries an accelerator that nothing is known of", kind.accelerator))
    if degree and degree > kind.devices * device.cores:
        most = f"at most {kind.devices * device.cores}"
        raise InputError(Problem("--tp", f"is more than {kind.name} has", f"{degree:g}", most))
    precision = wanted.precision or model.precision or model.card.native_precision
    setup = setup_on(model.card, precision, kind, degree)
    if concurrency is None and rate is None:
        concurrency = 1.0
    return setup, Shape(inputs, outputs), concurrency, rate


def _number(option: str, text: str | None, problems: list[Problem]) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        problems.append(Problem(option, "must be a number above 0", repr(text)))
        return 1.0
    return value


def _nearest(setup: Setup, shape: Shape, concurrency: float | None) -> list[dict[str, object]]:
    from llm_fleet.calibration.nearest import nearest_points

    return nearest_points(setup, shape.input_tokens, shape.output_tokens, concurrency or 16.0, NEAREST)


def _as_data(
    setup: Setup, shape: Shape, found: Forecast | None, reason: str, nearest: list[dict[str, object]]
) -> dict[str, object]:
    layout = setup.layout
    memory = setup.memory
    figures: dict[str, object] = {}
    if found:
        figures = dataclasses.asdict(found)
        for name in ("output_tokens_per_s", "tpot_ms", "ttft_ms"):
            figures |= {f"{end}_{name}": getattr(found, f"{end}_{name}") for end in ("low", "high")}
    return {
        "fits": not reason,
        "reason": reason,
        "accelerator": setup.device.name,
        "engine_class": setup.engine,
        "precision": setup.traits.precision,
        "tensor_parallel": layout.tensor_parallel,
        "replicas": layout.replicas,
        "input_tokens": shape.input_tokens,
        "output_tokens": shape.output_tokens,
        "weights_gib_per_device": memory.weights_gib,
        "cache_room_gib_per_device": memory.kv_cache_gib,
        **figures,
        "nearest_measured_points": nearest,
    }


def _as_text(
    wanted: Wanted, setup: Setup, shape: Shape, found: Forecast | None, reason: str, nearest: list[dict[str, object]]
) -> str:
    layout, traits = setup.layout, setup.traits
    unit = "cores" if setup.device.neuron else "GPUs"
    memory = setup.memory
    lines = [
        f"{wanted.model} in {traits.precision} on {wanted.instance}: tensor parallel {layout.tensor_parallel:g} "
        f"({unit}), replicas {layout.replicas:g}, engine class {setup.engine}",
        f"memory of one device: weights {memory.weights_gib:.2f} GiB, room for the cache {memory.kv_cache_gib:.2f} GiB",
    ]
    if found is None:
        lines.append(reason)
    else:
        lines += [
            f"{shape.input_tokens:g} tokens in, {shape.output_tokens:g} out, {found.concurrency:.4g} in flight, "
            f"room for {found.room:.4g}",
            f"  output tokens/s    {found.output_tokens_per_s:10.1f}   "
            f"{found.low_output_tokens_per_s:.1f} to {found.high_output_tokens_per_s:.1f}",
            f"  requests/s         {found.requests_per_s:10.3f}",
            f"  time per token, ms {found.tpot_ms:10.2f}   {found.low_tpot_ms:.2f} to {found.high_tpot_ms:.2f}",
            f"  first token, ms    {found.ttft_ms:10.1f}   {found.low_ttft_ms:.1f} to {found.high_ttft_ms:.1f}",
            f"evidence: {found.evidence_points} measured points alike{_inherits(setup)}",
            "the interval holds about 80 % of like cases",
        ]
    if nearest:
        lines.append("nearest measured points:")
        lines += [f"  {' '.join(f'{name}={value}' for name, value in point.items())}" for point in nearest]
    return "\n".join(lines)


def _inherits(setup: Setup) -> str:
    """A word where nothing was measured on the accelerator at all."""
    if evidence_of(setup).of_accelerator:
        return ""
    return f", none of {setup.device.name}: it stands where its architecture does ({setup.device.architecture})"


def points(path: str, out: str) -> tuple[str, int]:
    """Predict every row of a file and write it with the predictions; text for the user and the exit code: 1 where rows
    were bad.

    Raises:
        InputError: the file cannot be used, or the result cannot be written.
    """
    from llm_fleet.calibration.estimate import estimate, estimated_csv
    from llm_fleet.calibration.points import read_points
    from llm_fleet.whole_file import write_whole

    table = read_points(Path(path))
    estimated = estimate(table)
    write_whole(Path(out), estimated_csv(estimated))
    left = len(table.rows) - len(estimated.place_of)
    lines = [str(problem) for problem in table.problems.values()]
    lines += [
        f"{path}:{table.lines[index]}: {reason}"
        for index, reason in sorted(estimated.reasons.items())
        if index not in table.problems and reason.startswith("unknown")
    ]
    lines.append(f"{len(estimated.place_of)} rows predicted, {left} without a prediction (see their reason): {out}")
    return "\n".join(lines), 1 if len(lines) > 1 else 0
