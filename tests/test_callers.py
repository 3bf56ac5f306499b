"""Every public function and class of ``stats`` and ``models`` is used by the product, not only by tests and benches."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "clerestory"
PACKAGES = ("stats", "models")
Definition = ast.FunctionDef | ast.ClassDef


def definitions(tree: ast.Module) -> Iterator[Definition]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def imported(tree: ast.Module) -> dict[str, str]:
    """Local names of what a file imports from the package, with the names they have there."""
    return {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("clerestory"))
        for alias in node.names
    }


def references(node: ast.AST, known: dict[str, str]) -> Iterator[str]:
    """Names of the package that a piece of code uses: imported ones, attributes of modules, import paths in strings."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and child.id in known:
            yield known[child.id]
        elif isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and child.value.id in known:
            yield child.attr
        elif isinstance(child, ast.Constant) and isinstance(child.value, str) and ":" in child.value:
            yield child.value.rpartition(":")[2]


def used() -> dict[str, set[tuple[Path, str]]]:
    """For each name the places that use it: the file, and the top-level definition around it (empty: none)."""
    found: dict[str, set[tuple[Path, str]]] = {}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = {node.name: node.name for node in definitions(tree)} | imported(tree)
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                continue
            around = node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""
            for name in references(node, known):
                found.setdefault(name, set()).add((path, around))
    return found


def test_every_public_name_of_stats_and_models_has_a_caller():
    places = used()
    unused = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
        for package in PACKAGES
        for path in sorted((SOURCE / package).rglob("*.py"))
        for node in definitions(ast.parse(path.read_text(encoding="utf-8")))
        if not places.get(node.name, set()) - {(path, node.name)}
    ]
    assert unused == []
