"""The words of ``sysvm vm start`` that say which template a VM boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.errors import UsageError
from harness.cli.vm import _of_release


@pytest.mark.parametrize(
    ("template", "release", "meant"),
    [
        (None, None, (None, None)),
        ("151b81c1010f", None, ("151b81c1010f", None)),
        ("151b81c1010f", "4.20", ("151b81c1010f", "4.20")),
        ("4.20=151b81c1010f", None, ("151b81c1010f", "4.20")),
        ("4.20=151b81c1010f", "4.20", ("151b81c1010f", "4.20")),
        ("4.20=a=b.qcow2", None, ("a=b.qcow2", "4.20")),
    ],
)
def test_a_template_may_say_of_which_release_it_is(
    template: str | None, release: str | None, meant: tuple[str | None, str | None]
) -> None:
    assert _of_release(template, release) == meant


def test_a_file_whose_name_has_an_equals_sign_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "4.20=mine.qcow2"
    file.touch()
    assert _of_release(str(file), None) == (str(file), None)


@pytest.mark.parametrize(
    ("template", "release", "words"),
    [
        ("4.20=x", "4.21", "--template 4.20=x is of 4.20, and --from says 4.21"),
        ("5.99=x", None, "unknown release '5.99'"),
    ],
)
def test_a_release_that_nobody_knows_or_two_of_them_are_refused(
    template: str, release: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        _of_release(template, release)
