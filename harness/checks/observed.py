"""The observations themselves: what could not be looked at is never taken for what is as it should be."""

from __future__ import annotations

from harness.checks.case import Case
from harness.checks.registry import CannotLook, Result, check


@check("observed.whole", "of what the VM did not say, nobody knows whether the patch has left it alone")
def whole(case: Case) -> Result:
    """Every program that the VM was asked with has answered, before the patch and after it."""
    for when, moment in [("before the patch", case.before), *case.moments()]:
        failed = [f"{name} (status {status})" for name, status in sorted(moment.unanswered.items())]
        if failed:
            raise CannotLook(f"the VM did not say {when}: {', '.join(failed)}")
    return None
