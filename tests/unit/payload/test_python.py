"""The guest's Python runs on every interpreter that a system VM may have."""

import ast
import sys

import pytest
import vermin

from tests.unit.payload import guest

SOURCES = sorted(
    path for root in ("debian", "agent", "older") for path in (guest.SYSTEMVM / root).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(guest.SYSTEMVM)))
def test_needs_no_more_than_python_3_7(path):
    config = vermin.Config()
    config.set_eval_annotations(False)
    _python2, python3 = vermin.visit(path.read_text(), config=config).minimum_versions()
    assert python3 is not None, "no interpreter runs this"
    assert python3 <= (3, 7)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(guest.SYSTEMVM)))
def test_imports_nothing_but_the_standard_library(path):
    own = {"cloudrules", "cloudagent", "healthwords"}
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            assert name.partition(".")[0] in own | sys.stdlib_module_names, name
