"""Walks the imports of every module: nothing imports from a layer above its own, and leaves know no torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "wan2_i2v"
LAYERS = ("models", "stages", "pipeline", "cluster", "acting", "backends", "jobs", "api", "bench", "doors")
"""From low to high. Every other module of the package is a leaf, below them all."""

TORCH = {"torch", "diffusers", "transformers", "accelerate"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer(parts: tuple[str, ...]) -> int:
    """0 for a leaf, else the position in LAYERS, from 1. `parts` of the dotted name after `wan2_i2v`."""
    if not parts:
        return len(LAYERS)  # the package itself shows what the doors need
    return LAYERS.index(parts[0]) + 1 if parts[0] in LAYERS else 0


def imported(tree: ast.AST) -> list[str]:
    """Dotted names of all imports, those inside functions too, without those for type checkers only."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def without_type_checking(tree: ast.Module) -> ast.Module:
    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            return node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    return Strip().visit(tree)


def at_import(tree: ast.Module) -> ast.Module:
    """The module without the bodies of its functions: what runs when it is imported."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            return ast.Pass()

        visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    return Strip().visit(tree)


def parts_of(path: Path) -> tuple[str, ...]:
    relative = path.relative_to(PACKAGE).with_suffix("").parts
    return relative[:-1] if relative[-1] == "__init__" else relative


def parse(path: Path) -> ast.Module:
    return without_type_checking(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(parts_of(path)) or "wan2_i2v")
def test_imports_go_down(path):
    own = layer(parts_of(path))
    for name in imported(parse(path)):
        first, *rest = name.split(".")
        if first == "wan2_i2v" and rest and (len(rest) > 1 or (PACKAGE / rest[0]).exists() or is_module(rest[0])):
            assert layer(tuple(rest)) <= own, f"{path.name} imports {name} from a layer above its own"


def is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").exists()


@pytest.mark.parametrize(
    "path", [path for path in MODULES if layer(parts_of(path)) == 0], ids=lambda path: ".".join(parts_of(path))
)
def test_leaves_know_no_torch(path):
    assert not {name.split(".")[0] for name in imported(parse(path))} & TORCH


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if parts_of(path)[:1] in (("doors",), ("api",), ()) or parts_of(path)[-1:] == ("catalog",)
    ],
    ids=lambda path: ".".join(parts_of(path)) or "wan2_i2v",
)
def test_doors_load_no_torch_when_imported(path):
    names = imported(at_import(parse(path)))
    assert not {name.split(".")[0] for name in names} & TORCH
    heavy = ("wan2_i2v.pipeline", "wan2_i2v.stages", "wan2_i2v.models.components")
    assert not [name for name in names if name.startswith(heavy)]


def test_every_module_says_what_it_is_for():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    assert [str(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []
