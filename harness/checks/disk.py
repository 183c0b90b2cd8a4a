"""The disk beside its paths: what a machine boots from before there are files, and room that no file accounts for."""

from __future__ import annotations

from harness.checks.case import Case
from harness.checks.registry import Result, Skip, check, found

# What a guest writes between two looks may count as its file system's own for a moment.
_SLACK = 4 << 20
_BY_GUEST = Skip("the host does not read the disk of this VM")


@check("disk.boot-code", "a VM whose boot code is damaged runs on, and never comes back from a reboot")
def boot_code(case: Case) -> Result:
    """What the disk has outside of its file systems is as it was before."""
    before = case.before.state.boot_code
    if not before or not case.after.state.boot_code:
        return _BY_GUEST
    wrong = [
        f"{place} is not as it was before ({when})"
        for when, moment in case.moments()
        for place in sorted(before.keys() | moment.state.boot_code.keys())
        if before.get(place) != moment.state.boot_code.get(place)
    ]
    return found(wrong)


@check("disk.nameless", "a file that is removed and kept open fills the disk, and nobody finds it")
def nameless(case: Case) -> Result:
    """No more of the disk than before is taken by what has no name."""
    if not case.before.state.from_host or not case.after.state.from_host:
        return _BY_GUEST
    wrong = [
        f"{more / 1e6:.0f} MB of the disk are taken by files without a name, which were not before ({when})"
        for when, moment in case.moments()
        if (more := moment.state.nameless - case.before.state.nameless) > _SLACK
    ]
    return found(wrong)
