"""What the guide promises as a room: its tables cannot be changed, and it imports only the standard library."""

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from llm_fleet import guide

TABLES = {name: getattr(guide, name) for name in guide.__all__ if name.isupper()}
MAPPINGS = {name: cast("Mapping[Any, Any]", table) for name, table in TABLES.items() if not isinstance(table, tuple)}
ARTICLE_MD = Path(__file__).parents[2] / "docs" / "article.md"


class Sent(NamedTuple):
    priority: str
    budget: str
    tokens: int


def first_field(row: Any) -> str:
    """A named tuple's first field; for a plain number, one of its read-only attributes."""
    return getattr(row, "_fields", ["real"])[0]


def imported_modules(source: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_table_takes_no_new_row(name: str) -> None:
    with pytest.raises(TypeError):
        cast("dict[Any, Any]", MAPPINGS[name])["new"] = None


@pytest.mark.parametrize("name", TABLES)
def test_a_row_takes_no_new_value(name: str) -> None:
    rows: list[Any] = list(MAPPINGS[name].values()) if name in MAPPINGS else [TABLES[name]]
    for row in rows:
        with pytest.raises(AttributeError):
            setattr(row, first_field(row), None)


def test_a_routed_request_holds_a_copy_that_may_be_changed() -> None:
    request = Sent(priority="batch", budget="tight", tokens=10)
    guide.route_request(request)["returned"]["endpoint"] = "elsewhere"
    assert guide.route_request(request)["returned"]["endpoint"] == "inf2-cluster.internal"


def test_the_guide_imports_only_the_standard_library_and_itself() -> None:
    sources = sorted(Path(guide.__file__).parent.glob("*.py"))
    assert [source.name for source in sources] == ["__init__.py", "rules.py", "tables.py"]
    imported = set[str]().union(*map(imported_modules, sources))
    outside = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in outside if not name.startswith("llm_fleet.guide.")} == set()


def test_docs_list_every_claim_and_every_public_name_of_the_guide() -> None:
    text = ARTICLE_MD.read_text(encoding="utf-8")
    listed = re.findall(r"^\| (A\d+) \|", text.partition("## All claims")[2], flags=re.MULTILINE)
    assert listed == [f"A{number}" for number in range(1, 38)]
    rules_and_tables = {name for name in guide.__all__ if name.isupper() or name.islower()}
    assert {name for name in rules_and_tables if f"`{name}`" not in text} == set()
