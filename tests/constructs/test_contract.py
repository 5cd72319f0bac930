"""The contract of every construct: frozen, documented props; a docstring that opens with the smallest use."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "constructs" / "llm_fleet_constructs"
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if "on_instance" not in path.parts]


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                yield path, node


DATACLASSES = [
    node for _, node in classes() if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
]
CONSTRUCTS = [node for _, node in classes() if any(ast.unparse(base) == "Construct" for base in node.bases)]


def fields_without_text(node: ast.ClassDef) -> list[str]:
    """Fields that are not followed by a sentence of their own."""
    missing: list[str] = []
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if not documented:
                missing.append(ast.unparse(statement.target))
    return missing


def test_there_are_constructs_and_props() -> None:
    assert len(CONSTRUCTS) > 10
    assert len(DATACLASSES) > 10


@pytest.mark.parametrize("node", DATACLASSES, ids=lambda node: node.name)
def test_props_are_frozen_and_every_field_says_what_it_is(node: ast.ClassDef) -> None:
    assert any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)
    assert fields_without_text(node) == []


@pytest.mark.parametrize("node", DATACLASSES, ids=lambda node: node.name)
def test_a_default_is_told_in_the_text_of_its_field(node: ast.ClassDef) -> None:
    for statement, following in zip(node.body, node.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            assert "Default" in ast.unparse(following), f"{node.name}.{ast.unparse(statement.target)}"


@pytest.mark.parametrize("node", CONSTRUCTS, ids=lambda node: node.name)
def test_a_constructs_docstring_opens_with_its_smallest_use(node: ast.ClassDef) -> None:
    text = ast.get_docstring(node) or ""
    assert "Smallest use:" in text
    assert f"{node.name}(self, " in text.split("Smallest use:")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_stays_small_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
