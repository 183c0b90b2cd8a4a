"""The journal since a moment: every line of priority warning or worse, and core dumps."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from bundle.errors import InfrastructureError
from harness.guest import documents
from harness.guest.collect import Section
from harness.observe import tally

_WARNING = 4
# What the kernel and systemd say of a program that ended by a fault of its own.
_CRASH = r"code=dumped|status=(4|6|7|8|11|31)/(ILL|ABRT|BUS|FPE|SEGV|SYS)|segfault at |traps: "
_PRIORITIES = ("emergency", "alert", "critical", "error", "warning")


@dataclass(frozen=True)
class JournalLine:
    """One line of the journal. ``priority`` is syslog's, 0 is the worst."""

    priority: int
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message} ({_PRIORITIES[self.priority]})"


@dataclass(frozen=True)
class Journal:
    """The lines and crashes since a cursor, the cursor at their end, and the core files that lie about.

    ``is_whole`` says that what the earlier cursor names is there still.
    """

    cursor: str
    lines: tuple[JournalLine, ...]
    cores: tuple[str, ...]
    crashes: tuple[str, ...] = ()
    is_whole: bool = True


@dataclass(frozen=True)
class Allowed:
    """A line that a reviewer has found harmless, with the reason."""

    source: re.Pattern[str]
    message: re.Pattern[str]
    reason: str = field(compare=False)

    @property
    def name(self) -> str:
        """Its name in the notes of what excused something."""
        return f"journal {self.source.pattern} {self.message.pattern}"


def commands(since: str = "") -> dict[str, str]:
    """Return the commands that :func:`parse` reads.

    Args:
        since: a cursor of an earlier observation; without one no lines are asked for.
    """
    # Not "--after-cursor": with a priority, systemd up to 252 leaves out the first line that it is about.
    lines = f"journalctl --no-pager -q -o json --cursor={shlex.quote(since)} -p warning" if since else ":"
    return {
        "journal.lines": lines,
        # Where the new lines begin is there still: without it, all that was written before is gone, too.
        "journal.began": (
            f"echo {shlex.quote(since)}; journalctl --no-pager -q -n 1 -o json --cursor={shlex.quote(since)}"
            if since
            else ":"
        ),
        "journal.cursor": "journalctl --no-pager -q -n 1 -o json",
        # Templates keep no core files; that a program crashed is told at a lower priority.
        "journal.crashes": (
            f"journalctl --no-pager -q -o cat --after-cursor={shlex.quote(since)} | "
            f"{{ grep -aE '{_CRASH}' || [ $? -eq 1 ]; }}"
            if since
            else ":"
        ),
        "journal.cores": (
            "for f in /var/lib/systemd/coredump/* /var/crash/* /core /core.* /root/core /root/core.*; "
            'do [ ! -e "$f" ] || echo "$f"; done'
        ),
    }


def parse(sections: Mapping[str, Section], name: str = "guest") -> Journal:
    """Turn the outputs of :func:`commands` into a journal.

    Raises:
        InfrastructureError: the guest's journal cannot be read, for instance because the cursor is not its own.
    """
    for part in ("journal.lines", "journal.cursor"):
        if sections[part].status != 0:
            raise InfrastructureError(f"{name}: its journal cannot be read (status {sections[part].status})")
    try:
        newest = [documents.parse(line) for line in sections["journal.cursor"].text.splitlines()]
        cursor = newest[-1]["__CURSOR"] if newest else ""
        since, *began = sections["journal.began"].text.splitlines() or [""]
        first = [documents.parse(line)["__CURSOR"] for line in began]
        rows = map(documents.parse, sections["journal.lines"].text.splitlines())
        lines = tuple(_line(row) for row in rows if not since or row.get("__CURSOR") != since)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfrastructureError(f"{name}: its journal cannot be read: {error}") from None
    return Journal(
        cursor=cursor,
        lines=lines,
        cores=tuple(sections["journal.cores"].text.splitlines()),
        crashes=tuple(sections["journal.crashes"].text.splitlines()),
        is_whole=not since or first == [since],
    )


def _line(row: dict[str, object]) -> JournalLine:
    message = row.get("MESSAGE")
    if isinstance(message, list):  # journald's way to write bytes that are no UTF-8
        message = bytes(message).decode("utf-8", "backslashreplace")
    source = row.get("SYSLOG_IDENTIFIER") or row.get("_COMM") or row.get("_SYSTEMD_UNIT") or "unknown"
    return JournalLine(int(str(row.get("PRIORITY", _WARNING))), str(source), str(message or ""))


@cache
def allowed() -> tuple[Allowed, ...]:
    """Return the reviewed list ``journal-allowed.toml``."""
    text = (files("harness.observe") / "journal-allowed.toml").read_text(encoding="utf-8")
    return tuple(
        Allowed(re.compile(row["source"]), re.compile(row["message"]), row["reason"])
        for row in tomllib.loads(text)["line"]
    )


def unexpected(lines: tuple[JournalLine, ...]) -> tuple[JournalLine, ...]:
    """Return the lines that no row of the reviewed list allows."""
    return tuple(line for line in lines if line.priority <= _WARNING and not _is_allowed(line))


def _is_allowed(line: JournalLine) -> bool:
    """Return whether a row allows a line, and note which ones do."""
    found = [
        row for row in allowed() if row.source.fullmatch(line.source) and row.message.search(line.message)
    ]
    for row in found:
        tally.note(row.name, f"{line.source}: {line.message}")
    return bool(found)
