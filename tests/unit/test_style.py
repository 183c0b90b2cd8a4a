"""Functions fit on a screen and are annotated, and what is public explains itself: in the tools and in the guest."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("bundle", "harness", "systemvm")
MOST = 50
MOST_OF_A_FILE = 500
Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees(folder):
    """Yield every module of a folder, as its path and its syntax tree."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def long_functions(found):
    """Return the functions that have more lines than fit on a screen."""
    return [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in found
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.end_lineno - node.lineno >= MOST
    ]


def unannotated(found):
    """Return the functions with an argument without a type, or without a type of what they return."""
    guilty = []
    for path, tree in found:
        for node in ast.walk(tree):
            if not isinstance(node, Function):
                continue
            given = node.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            bare = [
                argument
                for argument in arguments
                if argument and argument.annotation is None and argument.arg not in ("self", "cls")
            ]
            if bare or node.returns is None:
                guilty.append(f"{path}:{node.lineno} {node.name}")
    return guilty


def public(tree):
    """Yield a module, its public classes and functions, and their public methods; magic ones speak for themselves."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, Function):
            todo += [
                inner
                for inner in node.body
                if isinstance(inner, ast.ClassDef | Function) and not inner.name.startswith("_")
            ]


def undocumented(found):
    """Return what is public and has no docstring; a module with nothing in it has nothing to explain."""
    return [
        f"{path}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', 'the module')}"
        for path, tree in found
        for node in public(tree)
        if node.body and not ast.get_docstring(node)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_has_more_than_fifty_lines(folder):
    assert long_functions(trees(folder)) == []


@pytest.mark.parametrize("folder", [*FOLDERS, "tests"])
def test_no_module_has_more_lines_than_a_person_reads_in_one_go(folder):
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path, _ in trees(folder)}
    assert {str(path): length for path, length in lengths.items() if length > MOST_OF_A_FILE} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_function_is_annotated(folder):
    assert unannotated(trees(folder)) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_public_has_a_docstring(folder):
    assert undocumented(trees(folder)) == []


def test_what_breaks_the_rules_is_found():
    text = (
        "class Bare:\n    def one(self, x: int):\n"
        + "        x\n" * MOST
        + "    def _two(self, y) -> None: ..."
    )
    found = [("a.py", ast.parse(text))]
    assert long_functions(found) == ["a.py:2 one"]
    assert unannotated(found) == ["a.py:2 one", f"a.py:{MOST + 3} _two"]
    assert undocumented(found) == ["a.py:1 the module", "a.py:1 Bare", "a.py:2 one"]
