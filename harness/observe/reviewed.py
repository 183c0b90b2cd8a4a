"""The reviewed list of what may differ between two observations: ``volatile.toml``, one row a pattern.

Everything is looked at; this list alone says what may differ, with a reason and with who makes it differ.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias, get_args

from bundle import layout
from harness.observe import tally

VolatileKind: TypeAlias = Literal["path", "sysctl", "module", "mount", "unit", "process", "socket", "rules"]
Owner: TypeAlias = Literal["kernel", "systemd", "CloudStack", "our script", "a service", "the harness"]
KINDS: tuple[VolatileKind, ...] = get_args(VolatileKind)
_UPLOADED = "{uploaded}"
OWNERS: tuple[Owner, ...] = get_args(Owner)


@dataclass(frozen=True)
class VolatileRow:
    """A row: shell patterns on the whole name (``*`` also matches ``/``), why it may differ, who makes it differ.

    Attributes:
        written: the patterns as they stand in the file, each with what it means where names were filled in.
        folders_stay: whether a folder of that name may not go: whoever writes below it makes none.
        may_close: whether group and others may lose their rights to it.
        largest: bytes that a file may have at most, below 0 where nothing bounds a single one.
        of_any_size: whether it does not count among what may have grown: what somebody sends is as large as it is.
    """

    written: dict[str, tuple[str, ...]]
    reason: str
    owner: Owner
    folders_stay: bool = False
    may_close: bool = False
    largest: int = -1
    of_any_size: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        """All its patterns."""
        return tuple(pattern for meant in self.written.values() for pattern in meant)

    def is_about(self, name: str) -> bool:
        """Return whether it is about something."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)


@cache
def rows(kind: VolatileKind) -> tuple[VolatileRow, ...]:
    """Return the rows of a kind.

    Raises:
        KeyError: a row has no pattern.
        TypeError: it has no reason, no owner, or a word that nobody knows.
    """
    document = tomllib.loads((files("harness.observe") / "volatile.toml").read_text(encoding="utf-8"))
    return tuple(
        VolatileRow(
            {word: _meant(word) for word in row["patterns"]},
            **{name: value for name, value in row.items() if name != "patterns"},
        )
        for row in document.get(kind, ())
    )


def _meant(pattern: str) -> tuple[str, ...]:
    """Return what a pattern means; one that is about an uploaded file means one for each file."""
    return tuple(dict.fromkeys(pattern.replace(_UPLOADED, name) for name in layout.PAYLOAD))


def patterns(kind: VolatileKind) -> tuple[str, ...]:
    """Return all patterns of a kind."""
    return tuple(pattern for row in rows(kind) for pattern in row.patterns)


@cache
def _any(kind: VolatileKind) -> re.Pattern[str]:
    # One expression for all: it is asked for every path of a VM. Without any row it matches nothing.
    return re.compile("|".join(map(fnmatch.translate, patterns(kind))) or r"(?!)")


def may_differ(kind: VolatileKind, name: str) -> bool:
    """Return whether something may differ."""
    return _any(kind).match(name) is not None


def excuses(kind: VolatileKind, name: str) -> bool:
    """Return whether something that differs may differ, and note which pattern of the list says so."""
    if not may_differ(kind, name):
        return False
    for row in rows(kind):
        for word, meant in row.written.items():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in meant):
                tally.note(named(kind, word), name)
    return True


def stays(path: str) -> bool:
    """Return whether a folder of that name may not go, although what is in it may."""
    return any(row.folders_stay and row.is_about(path) for row in rows("path"))


def is_small(path: str, size: int) -> bool:
    """Return whether a file has no more bytes than it may have."""
    return not any(0 <= row.largest < size and row.is_about(path) for row in rows("path"))


def is_of_any_size(path: str) -> bool:
    """Return whether nobody asks how much a path has grown."""
    return any(row.of_any_size and row.is_about(path) for row in rows("path"))


def may_close(path: str) -> bool:
    """Return whether group and others may lose their rights to a path."""
    return any(row.may_close and row.is_about(path) for row in rows("path"))


def named(kind: VolatileKind, pattern: str) -> str:
    """Return what a pattern of the file is called where it is noted that it excused something."""
    return f"volatile {kind} {pattern}"


def reason(kind: VolatileKind, name: str) -> str | None:
    """Return why something may differ, or None when it may not."""
    for row in rows(kind):
        if row.is_about(name):
            return row.reason
    return None
