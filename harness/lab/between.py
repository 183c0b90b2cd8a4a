"""Between two patches of one VM: what was seen at the end of the first is there at the beginning of the next."""

from __future__ import annotations

from dataclasses import replace

from harness import checks
from harness.checks import Case, Outcome
from harness.observe.observation import Observation

# What nobody but a patch, or rules that are sent, may change; services, journal and answers are about a patch.
_LOOKS = (
    "observed", "files.kept", "files.setuid", "kernel", "rules", "units", "processes.none-new", "sockets", "ports",
)  # fmt: skip
_NAME = "between.nothing-changed"


def outcomes(vm_type: str, last: Observation, now: Observation) -> list[Outcome]:
    """Return what changed between two observations although nobody did anything; one that passed when nothing did."""
    case = Case(vm_type=vm_type, expected="kept", before=last, patched=now, after=now, signature="")
    made = checks.judge(case, only=_LOOKS)
    wrong = checks.failed(made)
    found = [replace(row, name=f"between.{row.name}", reason=_told(row.reason)) for row in wrong]
    first, *others = found or [Outcome(_NAME, "passed")]
    return [first.excusing(checks.excused(made)), *others]


def _told(reason: str) -> str:
    return reason.replace("right after the patch", "before the next patch")
