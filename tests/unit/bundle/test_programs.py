"""A program that cannot do its work is one line that says what it was to do."""

import re

import pytest

from bundle import programs
from bundle.errors import InfrastructureError


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
