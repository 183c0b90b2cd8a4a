"""The first cause of a run's failure, and the lines that prove it: what a person has to read first."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.record import severity
from harness.report.rows import CheckRow, RunReport, ScenarioRow

# What programs write when something is wrong.
_TROUBLE = re.compile(
    r"\b(alert|emerg\w*|crit\w*|err|errors?|fatal|failed|failure|unknown|invalid|syntax|cannot|denied|refused|"
    r"no such|not found|did you mean|traceback|panic|killed|timed out)\b",
    re.IGNORECASE,
)
# The script asks a failed service loudly: what it answers stands behind such a line.
_ASKED = re.compile(r"\S+ says, asked by .+")
_OUTCOME = "answer.outcome"
_MOST = 8


@dataclass(frozen=True)
class Cause:
    """The first failure, and how it is known.

    Attributes:
        scenario: its id; empty when the run itself is at fault.
        check: the check's name; empty when no check says it.
        occasion: after which patch it was made.
        reason: one line.
        lines: that prove it, as they stand in a log or among the check's details.
        also: how many other scenarios failed by the same check.
    """

    scenario: str
    check: str
    occasion: str
    reason: str
    lines: tuple[str, ...]
    also: int = 0


def first_cause(report: RunReport) -> Cause | None:
    """Return what to read first of a run, or None when nothing failed.

    The gravest check of all scenarios comes first, and among equals the earliest. When the patch itself failed
    although it had to succeed, that explains what else did not hold in that scenario, and comes before it.
    """
    if report.verdict in {"passed", "skipped"}:
        return None
    found = [(row, check) for row in (*report.scenarios, report.common) for check in row.failures]
    if report.damaged or not found:
        return _without_check(report)
    row, check = min(found, key=lambda pair: (severity.rank(pair[1].name), pair[1].t))
    check = next((other for other in row.failures if other.name == _OUTCOME), check)
    also = sum(
        any(other.name == check.name for other in r.failures) for r in report.scenarios if r is not row
    )
    return Cause(row.id, check.name, check.occasion, check.reason, proof_of(row, check), also)


def _without_check(report: RunReport) -> Cause:
    """Return the cause of a run that failed by none of its checks."""
    bad = [row for row in report.scenarios if row.verdict in {"failed", "error"} and row.reason]
    if report.damaged or not bad:
        return Cause("", "", "", report.reason, report.damaged[:_MOST])
    first = min(bad, key=lambda row: row.t + (row.seconds or 0))
    said = [f"{step.title}: {step.reason}" for step in first.steps if step.verdict not in {None, "passed"}]
    also = sum(row.reason == first.reason for row in bad) - 1
    return Cause(first.id, "", "", first.reason, tuple(said[:_MOST]), also)


def proof_of(row: ScenarioRow, check: CheckRow) -> tuple[str, ...]:
    """Return the few lines that prove a failed check: of the failed patch's log if it is about that, else its own."""
    if check.name == _OUTCOME:
        for patch in row.patches:
            if patch.occasion == check.occasion and patch.log:
                return telling(patch.log)
    return check.details[:_MOST]


def telling(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that tell what is wrong: a service's answer to the loudest question first."""
    asked = [place for place, line in enumerate(lines) if _ASKED.fullmatch(line)]
    bad = [place for place, line in enumerate(lines) if _TROUBLE.search(line) and not line.startswith("@")]
    chosen: list[int] = []
    # The last question is the loudest one: the check of the configuration.
    for begin, end in reversed(list(itertools.pairwise([*asked, len(lines)]))):
        answer = [place for place in bad if begin < place < end]
        chosen += [begin, *answer] if answer else []
    chosen += bad
    few = list(dict.fromkeys(chosen or range(len(lines))))[:_MOST]
    if few and few[-1] in asked:
        few.pop()  # a question whose answer did not fit
    return tuple(lines[place] for place in few)
