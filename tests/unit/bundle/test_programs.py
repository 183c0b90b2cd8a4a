"""A program that cannot do its work is one line that says what it was to do."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import programs
from bundle.errors import InfrastructureError
from harness.host import servers

ROOT = Path(__file__).parents[3]


def test_what_a_program_says_is_returned():
    ended = programs.run(["sh", "-c", "cat; echo more >&2"], stdin="words")
    assert (ended.status, ended.stdout, ended.stderr) == (0, "words", "more\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sh", "-c", "echo first >&2; echo last >&2; exit 3"], "cannot make it: sh failed: last"),
        (["sh", "-c", "echo only; exit 3"], "cannot make it: sh failed: only"),
        (["sh", "-c", "exit 3"], "cannot make it: sh failed: it said nothing and ended with status 3"),
        (["/nosuch/program"], "cannot make it: program is not installed"),
    ],
)
def test_a_failure_is_one_line(command, words):
    with pytest.raises(InfrastructureError, match=re.escape(words)):
        programs.run(command, what="make it")


def test_a_missing_program_names_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nosuch")
    with pytest.raises(InfrastructureError) as caught:
        programs.run(["ssh-keygen", "-q"], what="make the snapshot's SSH key")
    assert "install the package openssh-client" in caught.value.diagnostics()


def test_a_program_that_hangs_is_ended():
    with pytest.raises(InfrastructureError, match=r"sleep did not end within 0\.1 s"):
        programs.run(["sleep", "30"], deadline=0.1)


def test_an_unchecked_failure_is_returned():
    assert programs.run(["false"], check=False).status == 1


def test_a_program_that_stays_and_is_missing_names_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nosuch")
    missing = pytest.raises(InfrastructureError, match="cannot pack: zstd is not installed")
    with missing as caught, programs.starting("zstd", "pack"):
        subprocess.Popen(["zstd"])
    assert "install the package zstd" in caught.value.diagnostics()


def test_a_program_that_may_not_be_started_says_why(tmp_path):
    (tmp_path / "tool").write_text("")
    closed = pytest.raises(InfrastructureError, match="tool cannot be started: Permission denied")
    with closed, programs.starting(f"{tmp_path}/tool"):
        subprocess.Popen([tmp_path / "tool"])


@pytest.mark.parametrize("missing", ["server", "setpriv"])
def test_a_server_that_is_missing_is_one_line(monkeypatch, missing):
    monkeypatch.setenv("PATH", "/nosuch")
    with pytest.raises(InfrastructureError, match=f"{missing} is not installed"):
        servers.start(["/nosuch/server" if missing == "server" else "/bin/true"])


def _is_guard(node: ast.AST) -> bool:
    if isinstance(node, ast.With):
        return any("starting(" in ast.unparse(item) for item in node.items)
    return isinstance(node, ast.Try) and any(
        handler.type is not None and "OSError" in ast.unparse(handler.type) for handler in node.handlers
    )


def _unguarded(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that start a program where nobody catches that it is missing."""
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"subprocess.Popen", "subprocess.run"}:
            around: ast.AST | None = node
            while around is not None and not _is_guard(around):
                around = above.get(around)
            if around is None:
                yield node.lineno


def test_no_missing_program_is_a_traceback():
    """Through run or within starting; Python itself is there, and scenarios start nothing else."""
    places = [path for root in ("bundle", "harness") for path in sorted((ROOT / root).rglob("*.py"))]
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in places
        if path.parent.name != "scenarios"
        for line in _unguarded(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()
    assert list(_unguarded(ast.parse("import subprocess\nsubprocess.Popen(['x'])\n"))) == [2]
