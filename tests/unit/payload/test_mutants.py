"""The table of the payload's mutants fits the payload: each row changes one place, and its tests are there."""

import ast
from collections import Counter
from functools import cache

import pytest

from tests.mutants.payload import KINDS, ROOT, load

MUTANTS = load()


@cache
def functions(path):
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in MUTANTS}))
def test_a_mutant_of_the_payload_changes_one_place_and_is_a_program_still(file):
    text = (ROOT / "systemvm" / file).read_text(encoding="utf-8")
    for mutant in MUTANTS:
        if mutant.file == file:
            changed = mutant.changed(text)
            assert changed != text
            if file.endswith(".py"):
                ast.parse(changed)


def test_the_tests_of_a_mutant_are_there_and_none_of_them_compares_with_what_the_payload_rendered():
    for mutant in MUTANTS:
        assert mutant.tests, mutant
        for test in mutant.tests:
            path, _, name = test.partition("::")
            assert name.partition("[")[0] in functions(path), test
            assert "golden" not in name


def test_every_kind_of_change_has_its_mutants_and_no_row_stands_twice():
    assert len(MUTANTS) >= 100
    assert {mutant.kind for mutant in MUTANTS} == KINDS
    rows = Counter((mutant.file, mutant.old, mutant.new) for mutant in MUTANTS)
    assert [row for row, count in rows.items() if count > 1] == []
