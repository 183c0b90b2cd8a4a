"""Between two patches of one VM: what was seen at the end of the first is there at the beginning of the next."""

from __future__ import annotations

from dataclasses import replace

from harness import checks
from harness.checks import Case, Outcome
from harness.observe.observation import Observation

# What nobody but a patch, or rules that are sent, may change; services and answers are about a patch.
_LOOKS = (
    "observed", "files.kept", "files.setuid", "files.byte-code", "disk", "kernel", "rules", "units", "processes",
    "sockets", "ports", "identity.agent-properties", "journal", "console",
)  # fmt: skip
_NAME = "between.nothing-changed"


def outcomes(last: Case, now: Observation, console: str) -> list[Outcome]:
    """Return what changed since a case although nobody did anything; one that passed when nothing did.

    Args:
        last: the case; what it causes on purpose may go on.
        now: an observation that has the journal's lines since.
        console: what was printed since.
    """
    case = replace(
        last,
        expected="kept",
        before=last.after,
        patched=now,
        after=now,
        answer=None,
        console=console,
        earlier=None,
    )
    made = checks.judge(case, only=_LOOKS)
    wrong = checks.failed(made)
    found = [replace(row, name=f"between.{row.name}", reason=_told(row.reason)) for row in wrong]
    first, *others = found or [Outcome(_NAME, "passed")]
    return [first.excusing(checks.excused(made)), *others]


def _told(reason: str) -> str:
    return reason.replace("right after the patch", "before the next patch")
