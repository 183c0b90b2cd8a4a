"""Known failures: a reviewed list of checks that may fail for a while, marked and never hidden.

The file has rows like this one::

    [[known]]
    check = "services.renewed"
    scenario = "router-from-4.15-*"
    reason = "haproxy of 4.15 reloads twice, issue 1234"
    until = 2026-12-31

``check`` and ``scenario`` may have ``*``. After the day ``until`` a row fails the run, so that nobody forgets it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from bundle.errors import UsageError

_KEYS = {"check", "scenario", "reason", "until"}


@dataclass(frozen=True)
class Known:
    """One row of the list."""

    check: str
    scenario: str
    reason: str
    until: str

    def covers(self, scenario: str, check: str) -> bool:
        """Say whether the row is about a check of a scenario."""
        return fnmatchcase(scenario, self.scenario) and fnmatchcase(check, self.check)

    def __str__(self) -> str:
        """Return why the failure is expected, and how long."""
        return f"known until {self.until}: {self.reason}"


def read(path: Path) -> tuple[Known, ...]:
    """Return the rows of a file.

    Raises:
        UsageError: it cannot be read, or a row lacks something, or has something else.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the known failures {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no list of known failures: {error}") from None
    rows = document.get("known", [])
    if set(document) - {"known"} or not isinstance(rows, list):
        raise UsageError(f"{path}: expected nothing but rows [[known]]")
    return tuple(_row(row, f"{path}: row {number}") for number, row in enumerate(rows, 1))


def _row(row: object, where: str) -> Known:
    if not isinstance(row, dict) or set(row) != _KEYS:
        raise UsageError(f"{where}: expected {', '.join(sorted(_KEYS))}")
    until = row["until"]
    texts = [row[name] for name in ("check", "scenario", "reason")]
    if type(until) is not date or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UsageError(f"{where}: 'until' is a date such as 2026-12-31, the others are texts")
    return Known(row["check"], row["scenario"], row["reason"], until.isoformat())


def expired(rows: Sequence[Known], today: date) -> tuple[Known, ...]:
    """Return the rows whose last day has passed."""
    return tuple(row for row in rows if row.until < today.isoformat())
