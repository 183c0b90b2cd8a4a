"""The role that a router of a pair tells, as a server of its time reads it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.management import health


class Router:
    """A router that tells one role."""

    name = "r-10-VM"

    def __init__(self, said: str) -> None:
        self._said = said

    def run(self, *_words: object, **_options: object) -> SimpleNamespace:
        return SimpleNamespace(status=0, stdout=self._said, stderr="")


@pytest.mark.parametrize(
    ("said", "by_old", "by_new", "itself"),
    [
        ("Status: PRIMARY\n", "UNKNOWN", "PRIMARY", "PRIMARY"),
        ("Status: MASTER\n", "PRIMARY", "UNKNOWN", "PRIMARY"),
        ("Status: BACKUP\n", "BACKUP", "BACKUP", "BACKUP"),
        ("Status: FAULT\n", "FAULT", "FAULT", "FAULT"),
        ("Status: BACKUP (bumped)\n", "BACKUP", "BACKUP", "BACKUP"),
        ("PRIMARY\n", "UNKNOWN", "UNKNOWN", "UNKNOWN"),
        ("", "UNKNOWN", "UNKNOWN", "UNKNOWN"),
    ],
)
def test_a_server_reads_the_word_of_its_own_time(said: str, by_old: str, by_new: str, itself: str) -> None:
    for release in ("4.14.0", "4.15.2", "4.15"):
        assert health.role(Router(said), release) == by_old
    for release in ("4.16.0", "4.16", "4.22"):
        assert health.role(Router(said), release) == by_new
    assert health.role(Router(said)) == itself
