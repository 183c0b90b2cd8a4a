"""The disk beside its paths: what a machine boots from before there are files, and room that no file accounts for."""

from __future__ import annotations

from harness.checks.case import Case
from harness.checks.registry import Result, Skip, check, found
from harness.observe import reviewed
from harness.observe.files import DiskState

# What a guest writes between two looks may count as its file system's own for a moment.
_SLACK = 4 << 20
# What logs and other files that may differ may grow by, from before to any later moment.
_GROWS = 32 << 20
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


@check("disk.grown", "logs that fill the disk, or memory, stop every service that has to write")
def grown(case: Case) -> Result:
    """What may differ has not grown by more than logs do."""
    if not case.after.state.entries:
        return Skip("none of the folders that are looked at has a file")
    before, wrong = _sizes(case.before.state), []
    for when, moment in case.moments():
        more = {path: size - before.get(path, 0) for path, size in _sizes(moment.state).items()}
        total = sum(size for size in more.values() if size > 0)
        if total > _GROWS:
            worst = max(more, key=lambda path: more[path])
            wrong.append(f"files that may differ take {total / 1e6:.0f} MB more, {worst} most of it ({when})")
    return found(wrong)


def _sizes(state: DiskState) -> dict[str, int]:
    return {
        path: int(entry.stamp.size)
        for path, entry in state.entries.items()
        if entry.type == "file"
        and entry.stamp
        and reviewed.may_differ("path", path)
        and not reviewed.is_of_any_size(path)
    }
