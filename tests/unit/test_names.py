"""One word for one thing: no two public classes share a name, and each docstring starts with the thing itself."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bundle", "harness")
SOURCES = (*PACKAGES, "systemvm")
# A docstring that starts so says what a thing is like, and leaves the reader to guess what it is.
RIDDLES = ("What", "Who", "Whom", "Whose", "Where", "When", "Which", "Why", "How", "Whether")


def trees(package):
    """Yield every module of a package, as its path and its syntax tree."""
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def types_of(tree):
    """Yield the name and the line of each public class and type alias at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        else:
            continue
        if name[0].isupper() and not name.isupper():
            yield name, node.lineno


def shared(found):
    """Return the names that stand at several places, with these places."""
    places = defaultdict(list)
    for path, tree in found:
        for name, line in types_of(tree):
            places[name].append(f"{path}:{line}")
    return {name: where for name, where in places.items() if len(where) > 1}


def riddles(found):
    """Return the public docstrings that start with a riddle; what a check holds is a sentence for people."""
    return [
        f"{path}:{getattr(node, 'lineno', 1)} {text.splitlines()[0]}"
        for path, tree in found
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node))
        and text.split()[0].rstrip(",:") in RIDDLES
        and not getattr(node, "name", "").startswith("_")
        and not is_check(node)
    ]


def is_check(node):
    """Say whether a function is a check: ``sysvm checks`` prints its docstring as what holds."""
    return any(
        isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "check"
        for mark in getattr(node, "decorator_list", ())
    )


def test_no_two_public_types_have_the_same_name():
    assert shared([each for package in PACKAGES for each in trees(package)]) == {}


@pytest.mark.parametrize("package", SOURCES)
def test_public_docstrings_start_with_the_thing_that_they_explain(package):
    assert riddles(trees(package)) == []


def test_a_name_of_two_things_is_found():
    one, two = ast.parse("class Pair: ...\nclass _Pair: ..."), ast.parse("\nPair: TypeAlias = int\nPAIR = 2")
    assert shared([("one.py", one), ("two.py", two)]) == {"Pair": ["one.py:1", "two.py:2"]}


def test_a_riddle_is_found():
    text = "class Built:\n    'What was built.'\n\n@check('x', 'y')\ndef gone():\n    'What was there is gone.'\n"
    assert riddles([("one.py", ast.parse(text))]) == ["one.py:1 What was built."]
