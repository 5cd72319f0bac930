"""Reads a CSV table with a fixed header, cell by cell, noting every wrong cell by file, line and column.

    for row in read_table(path, COLUMNS, problems):     # a missing file or a wrong header gives no rows and a problem
        row.number("vcpus", at_least=1)

A reader returns a harmless value where the cell is wrong, so that one run finds every problem of a file.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from pathlib import Path

from llm_fleet.documents import read_text, shown_path
from llm_fleet.errors import InputError, Problem, nearest_of, unknown_choice

LIST_SEPARATOR = ";"


class Row:
    """One line of a table."""

    __slots__ = ("_cells", "_columns", "_line", "_path", "_problems")

    def __init__(
        self, path: Path, line: int, columns: dict[str, int], cells: list[str], problems: list[Problem]
    ) -> None:
        self._path, self._line, self._columns, self._cells, self._problems = path, line, columns, cells, problems

    def text(self, column: str) -> str:
        """The cell as it stands."""
        return self._cells[self._columns[column]]

    def where(self, column: str = "") -> str:
        """`file:line column`."""
        return f"{shown_path(self._path)}:{self._line} {column}".rstrip()

    def report(self, column: str, message: str, allowed: str = "") -> None:
        """Note a problem of one cell."""
        self._problems.append(Problem(self.where(column), message, repr(self.text(column)), allowed))

    def name(self, column: str) -> str:
        """A cell that must not be empty."""
        text = self.text(column)
        if not text or text != text.strip():
            self.report(column, "must be a name", "text without spaces around it")
        return text

    def number(self, column: str, at_least: float = 0.0) -> float:
        """A number that must be there."""
        value = self.optional_number(column, at_least)
        if value is None:
            self.report(column, "is empty", f"a number of at least {at_least:g}")
            return at_least
        return value

    def optional_number(self, column: str, at_least: float = 0.0) -> float | None:
        """A number, or None where the cell is empty: not known."""
        text = self._cells[self._columns[column]]
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not at_least <= value < math.inf:
            self.report(column, "is not a number in range", f"a number of at least {at_least:g}, or empty")
            return None
        return value

    def integer(self, column: str, at_least: int = 0) -> int:
        """A whole number that must be there."""
        value = self.optional_integer(column, at_least)
        if value is None and not self.text(column):
            self.report(column, "is empty", f"a whole number of at least {at_least}")
        return at_least if value is None else value

    def optional_integer(self, column: str, at_least: int = 0) -> int | None:
        """A whole number, or None where the cell is empty."""
        text = self._cells[self._columns[column]]
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and int(text) >= at_least):
            self.report(column, "is not a whole number in range", f"a whole number of at least {at_least}")
            return None
        return int(text)

    def flag(self, column: str) -> bool:
        """true or false."""
        return self.choice(column, ("true", "false")) == "true"

    def optional_flag(self, column: str) -> bool | None:
        """true, false, or None where the cell is empty."""
        return self.flag(column) if self.text(column) else None

    def choice(self, column: str, allowed: Collection[str], what: str = "word") -> str:
        """One of a closed list."""
        text = self._cells[self._columns[column]]
        if text not in allowed:
            self._problems.append(unknown_choice(self.where(column), what, text, allowed))
        return text

    def names(self, column: str, allowed: Collection[str] | None = None, what: str = "word") -> tuple[str, ...]:
        """A list of words separated by semicolons; empty where the cell is."""
        text = self._cells[self._columns[column]]
        found = tuple(text.split(LIST_SEPARATOR)) if text else ()
        for word in found:
            if not word or (allowed is not None and word not in allowed):
                self._problems.append(unknown_choice(self.where(column), what, word, allowed or ()))
        return found

    def day(self, column: str) -> date | None:
        """First day of a date, a month or a span of months; None where the cell is empty."""
        text = self.text(column)
        if not text:
            return None
        first = text.partition("/")[0]
        try:
            return date.fromisoformat(first if len(first) > 7 else f"{first}-01")
        except ValueError:
            self.report(column, "is not a date", "2026-07-20, 2026-07, or 2026-03/2026-04")
            return None


def read_table(path: Path, columns: Sequence[str], problems: list[Problem]) -> Iterator[Row]:
    """The table's rows, in file order. Problems of the file itself (missing, broken, wrong header) are noted too."""
    try:
        text = read_text(path)
    except InputError as error:
        problems.extend(error.problems)
        return
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    places = {column: index for index, column in enumerate(columns)}
    try:
        header = next(reader, None) or list[str]()
        if header != list(columns):
            problems.append(_wrong_header(path, header, columns))
            return
        for cells in reader:
            if len(cells) == len(columns):
                yield Row(path, reader.line_num, places, cells, problems)
            else:
                where = f"{shown_path(path)}:{reader.line_num}"
                problems.append(Problem(where, "has the wrong number of cells", str(len(cells)), str(len(columns))))
    except csv.Error as error:
        problems.append(Problem(f"{shown_path(path)}:{reader.line_num}", f"is not valid CSV: {error}"))


def _wrong_header(path: Path, header: list[str], columns: Sequence[str]) -> Problem:
    """Names the first column that is missing or out of place."""
    wanted, found = next(
        ((c, header[i] if i < len(header) else "") for i, c in enumerate(columns) if header[i : i + 1] != [c]),
        ("", header[len(columns)] if len(header) > len(columns) else ""),
    )
    message = f"column {wanted!r} must stand here" if wanted else "one column too many"
    return Problem(f"{shown_path(path)}:1", message, repr(found), ", ".join(columns), nearest_of(found, columns))
