"""Lists of differences that a person has reviewed, for comparisons other than that of one patch.

``born.toml`` is about a patched VM beside one that was born new, ``reboot.toml`` about a VM before and after a reboot.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias, get_args

from harness.checks import Outcome
from harness.observe import tally
from harness.observe.reviewed import Owner

ReviewedList: TypeAlias = Literal["born", "reboot"]
REVIEWED_LISTS: tuple[ReviewedList, ...] = get_args(ReviewedList)


@dataclass(frozen=True)
class ReviewedDifference:
    """A row: the check that sees a difference, an expression found in its line, why it is no damage, and whose."""

    comparison: ReviewedList
    check: str
    line: str
    reason: str
    owner: Owner

    @property
    def name(self) -> str:
        """Its name in the notes of what excused something."""
        return f"{self.comparison} {self.check} {self.line}"


@cache
def rows(comparison: ReviewedList) -> tuple[ReviewedDifference, ...]:
    """Return the rows of a comparison."""
    text = (files("harness.lab") / f"{comparison}.toml").read_text(encoding="utf-8")
    return tuple(ReviewedDifference(comparison, **row) for row in tomllib.loads(text)["difference"])


def without(comparison: ReviewedList, outcome: Outcome) -> Outcome:
    """Return an outcome without the lines that a person has reviewed; one of which nothing is left has passed."""
    if outcome.verdict != "failed":
        return outcome
    with tally.opened() as excused:
        lines = [
            line
            for line in outcome.details or (outcome.reason,)
            if not _is_known(comparison, outcome.name, line)
        ]
    outcome = outcome.excusing(excused)
    if not lines:
        return replace(outcome, verdict="passed", reason="", details=())
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return replace(outcome, reason=f"{lines[0]}{more}", details=tuple(lines))


def _is_known(comparison: ReviewedList, check: str, line: str) -> bool:
    """Return whether a person has reviewed a line of a check, and note in which rows."""
    found = [
        [row for row in rows(comparison) if row.check == check and re.search(row.line, part)]
        for part in _parts(check, line)
    ]
    if not all(found):
        return False
    for row in (row for rows_of_part in found for row in rows_of_part):
        tally.note(row.name, line)
    return True


def _parts(check: str, line: str) -> list[str]:
    """Return each change that a line tells: of a path, all stand in one, and each has to be known."""
    path, colon, told = line.partition(": ")
    if not check.startswith("files.") or not colon:
        return [line]
    return [f"{path}: {part}" for part in told.split("; ")]
