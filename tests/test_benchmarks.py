"""Benchmarks are started as scripts: what they import from beside them has to be found then too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_projects_root_is_on_the_path_before_its_packages_are_imported(script):
    """Python puts the script's own folder there, not the project's root."""
    body = ast.parse(script.read_text(encoding="utf-8")).body
    if not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in body):
        return
    ways = ("sys.path.insert(0, str(Path(__file__).resolve().parents[1]))", "sys.path.insert(0, str(ROOT))")
    inserted = [node.lineno for node in body if ast.unparse(node) in ways]
    needed = [
        node.lineno
        for node in body
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("benchmarks", "training")
    ]
    assert all(inserted and min(inserted) < line for line in needed), f"add sys.path.insert to {script.name}"
