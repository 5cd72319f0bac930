"""Measured points, or configurations to be predicted, from a CSV file: typed, each bad row with its line and reason.

table = read_points(path)         # InputError where the file or its header cannot be used
table.points, table.problems      # good rows in file order; bad ones as problems, the rest goes on
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_fleet.documents import shown_path
from llm_fleet.errors import InputError, Problem, unknown_choice

REQUIRED = (
    *("engine", "engine_version", "mode", "model", "model_card", "params_billion", "precision_weights"),
    *("precision_kv", "accelerator", "accelerator_count", "tensor_parallel", "pipeline_parallel"),
    *("expert_parallel", "data_parallel", "batch_or_concurrency", "request_rate_per_s", "input_tokens"),
    "output_tokens",
)
"""Columns that say what was run."""
MEASURED = ("output_tokens_per_s", "total_tokens_per_s", "ttft_ms", "tpot_ms")
"""Columns that say what came out. No prediction reads them."""
MODES = ("single_stream", "fixed_concurrency", "offline_throughput", "online_rate", "server_scenario", "layer_profile")
POSITIVE = (
    *("params_billion", "accelerator_count", "tensor_parallel", "pipeline_parallel", "expert_parallel"),
    *("data_parallel", "batch_or_concurrency", "request_rate_per_s", "output_tokens_per_s", "total_tokens_per_s"),
    *("ttft_ms", "tpot_ms"),
)
AT_LEAST_ZERO = ("input_tokens", "output_tokens")

_LIMIT = re.compile(r"max(?:imum)?[ _](?:batch(?: size)?|num_seqs)[ =]*(\d+)", re.IGNORECASE)
_ACTIVE = re.compile(r"MoE ~?(\d+(?:\.\d+)?)B active")
_LATENCY = "e2e/tok"
_COMPILED = re.compile(r"(?:compiled sequence length|compiled seq_len|seq_len) (\d+)")


@dataclass(frozen=True, slots=True)
class Point:
    """One row. None means not stated; measured values are None where they were not measured."""

    line: int
    source_id: str
    date: str
    engine: str
    engine_version: str
    mode: str
    model: str
    model_card: str
    params_billion: float | None
    precision: str
    precision_kv: str
    accelerator: str
    count: float
    tensor_parallel: float | None
    pipeline_parallel: float | None
    expert_parallel: float | None
    data_parallel: float | None
    concurrency: float | None
    rate_per_s: float | None
    input_tokens: float | None
    output_tokens: float | None
    output_tokens_per_s: float | None
    total_tokens_per_s: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    most_running: float | None
    """Limit of sequences that the notes state for one engine."""
    compiled_tokens: float | None
    """Compiled length that the notes state."""
    active_billion: float | None
    """Active parameters that the notes state."""
    tpot_is_latency: bool
    """The source's time per token is the whole request's, waiting and prompt included, over its tokens."""
    left_out: str
    """Why no fit should take the row; empty where it should."""


@dataclass(frozen=True, slots=True)
class PointTable:
    """A file of points."""

    path: Path
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    """All rows as they stand."""
    lines: Sequence[int]
    """Their line numbers."""
    points: Sequence[Point | None]
    """Of each row; None where it is bad."""
    problems: Mapping[int, Problem]
    """By row index."""


_DOUBT = re.compile(r"SUSPECT|MAYBE_MTP|WEAK|speculati(?!ve off|on off)", re.IGNORECASE)


def read_points(path: Path) -> PointTable:
    """The points of `path`.

    Raises:
        InputError: the file cannot be read, is no CSV, is empty, or lacks columns (all are named).
    """
    text = _text(path)
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    shown = shown_path(path)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = next(reader, None) or list[str]()
        for cells in reader:
            if cells:
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(Problem(f"{shown}:{reader.line_num}", f"is not valid CSV: {error}")) from error
    header = [name.strip() for name in header]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        message = f"lacks the columns {', '.join(missing)}; measured columns may be missing, these may not"
        raise InputError(Problem(f"{shown}:1", message))
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled:
        raise InputError(Problem(f"{shown}:1", f"names columns twice: {', '.join(doubled)}"))
    return _typed(path, tuple(header), rows, lines)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(Problem(shown_path(path), f"cannot be read: {error.strerror or error}")) from error
    except UnicodeDecodeError as error:
        raise InputError(Problem(shown_path(path), f"is not UTF-8: byte {error.start}")) from error


def _typed(path: Path, header: tuple[str, ...], rows: list[list[str]], lines: list[int]) -> PointTable:
    places = {name: index for index, name in enumerate(header)}
    shown = shown_path(path)
    points: list[Point | None] = []
    problems: dict[int, Problem] = {}
    numbers: dict[str, float | None] = {}
    for index, (cells, line) in enumerate(zip(rows, lines, strict=True)):
        if len(cells) != len(header):
            problems[index] = Problem(
                f"{shown}:{line}", "has the wrong number of cells", str(len(cells)), str(len(header))
            )
            points.append(None)
            continue
        found = _point(cells, places, line, numbers)
        if isinstance(found, Point):
            points.append(found)
        else:
            column, message, value, allowed = found
            problems[index] = Problem(f"{shown}:{line} {column}", message, repr(value), allowed)
            points.append(None)
    return PointTable(path, header, rows, lines, points, problems)


Mistake = tuple[str, str, str, str]
"""Column, message, value and what is allowed."""


def _number(text: str, known: dict[str, float | None]) -> float | None:
    """A number; None where the cell is empty, nan where it is no number."""
    if text in known:
        return known[text]
    stripped = text.strip()
    try:
        value = float(stripped) if stripped else None
    except ValueError:
        value = math.nan
    known[text] = value
    return value


def _values(
    cells: list[str], places: dict[str, int], known: dict[str, float | None]
) -> dict[str, float | None] | Mistake:
    """The row's numbers, None where a cell is empty."""
    values: dict[str, float | None] = {}
    for name in (*POSITIVE, *AT_LEAST_ZERO):
        value = _number(cells[places[name]], known) if name in places else None
        if name == "request_rate_per_s" and value == math.inf:
            value = None  # everything at once: no rate of its own
        values[name] = value
        if value is None:
            continue
        if not 0 <= value < math.inf or (value == 0 and name in POSITIVE):
            allowed = "a number of at least 0, or empty" if name in AT_LEAST_ZERO else "a number above 0, or empty"
            return name, "is not a number in range", cells[places[name]], allowed
    return values


def _point(cells: list[str], places: dict[str, int], line: int, known: dict[str, float | None]) -> Point | Mistake:
    """The typed row, or what is wrong with it."""

    def text(name: str) -> str:
        place = places.get(name)
        return "" if place is None else cells[place].strip()

    values = _values(cells, places, known)
    if isinstance(values, tuple):
        return values
    mode = text("mode")
    if mode not in MODES:
        return "mode", unknown_choice("", "mode", mode, MODES).message, mode, ", ".join(MODES)
    for name in ("model", "accelerator"):
        if not text(name):
            return name, "is empty", "", "a name"
    count = values["accelerator_count"]
    if count is None:
        return "accelerator_count", "is empty", "", "a number above 0"
    notes = text("notes")
    limit, compiled, active = _LIMIT.search(notes), _COMPILED.search(notes), _ACTIVE.search(notes)
    return Point(
        line=line,
        source_id=text("source_id"),
        date=text("measured_date"),
        engine=text("engine").lower(),
        engine_version=text("engine_version"),
        mode=mode,
        model=text("model"),
        model_card=text("model_card"),
        params_billion=values["params_billion"],
        precision=text("precision_weights").lower(),
        precision_kv=text("precision_kv").lower(),
        accelerator=text("accelerator"),
        count=count,
        tensor_parallel=values["tensor_parallel"],
        pipeline_parallel=values["pipeline_parallel"],
        expert_parallel=values["expert_parallel"],
        data_parallel=values["data_parallel"],
        concurrency=values["batch_or_concurrency"],
        rate_per_s=values["request_rate_per_s"],
        input_tokens=values["input_tokens"],
        output_tokens=values["output_tokens"],
        output_tokens_per_s=values["output_tokens_per_s"],
        total_tokens_per_s=values["total_tokens_per_s"],
        ttft_ms=values["ttft_ms"],
        tpot_ms=values["tpot_ms"],
        most_running=float(limit[1]) if limit else None,
        compiled_tokens=float(compiled[1]) if compiled else None,
        active_billion=float(active[1]) if active else None,
        tpot_is_latency=_LATENCY in notes,
        left_out=text("left_out") or ("doubtful in its source" if _DOUBT.search(notes) else ""),
    )
