"""Functions fit on a screen: none has more than fifty lines."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 50


@pytest.mark.parametrize("folder", ["bundle", "harness", "systemvm"])
def test_no_function_has_more_than_fifty_lines(folder):
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= MOST
    ]
    assert long == []
