"""The kernel: settings, modules, mounts, swap and clock are the ones from before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.checks.case import LONG_STALL_MS, Case
from harness.checks.registry import CannotLook, Finding, HostStoodStill, Result, check, found
from harness.observe import reviewed
from harness.observe.kernel import Mount

# Seconds by which a clock may wander against the host's during a patch, beyond what the round trips leave open.
_WANDERS = 2.0
# Settings that people know by another name.
_CALLED = {"kernel/hostname": "the host name", "kernel/domainname": "the domain name"}


@check("kernel.settings", "a router that forwards no packets, or filters none, has lost its job")
def settings(case: Case) -> Result:
    """Every setting of the kernel is as before, the host name too, but for those that may differ."""
    wrong = []
    for when, moment in case.moments():
        before, after = case.before.kernel.settings, moment.kernel.settings
        if before is None or after is None:
            raise CannotLook("the VM did not say how its kernel is set")
        wrong += [f"{line} ({when})" for line in _settings(before, after)]
    return found(wrong)


def _settings(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name) and not reviewed.excuses("sysctl", name):
            called = _CALLED.get(name, f"the kernel's setting {name.replace('/', '.')}")
            yield f"{called} was {before.get(name, 'absent')} and is {after.get(name, 'absent')}"


@check(
    "kernel.modules", "a module that is gone takes its filter or its tunnel along; a new one opens something"
)
def modules(case: Case) -> Result:
    """The loaded modules are those from before."""
    wrong = []
    for when, moment in case.moments():
        before, after = case.before.kernel.modules, moment.kernel.modules
        if before is None or after is None:
            raise CannotLook("the VM did not say which modules its kernel has")
        wrong += [f"module {name} is loaded, it was not before ({when})" for name in _new(before, after)]
        wrong += [f"module {name} is not loaded any more ({when})" for name in _new(after, before)]
    return found(wrong)


def _new(one: frozenset[str], other: frozenset[str]) -> list[str]:
    return sorted(name for name in other - one if not reviewed.excuses("module", name))


@check("kernel.mounts", "a file system over another hides it; one that is gone takes its files along")
def mounts(case: Case) -> Result:
    """What is mounted where, and how, is as before."""
    wrong = []
    for when, moment in case.moments():
        before, after = case.before.kernel.mounts, moment.kernel.mounts
        if before is None or after is None:
            raise CannotLook("the VM did not say what is mounted")
        wrong += [f"{line} ({when})" for line in _mounts(before, after)]
    return found(wrong)


def _mounts(before: Mapping[str, tuple[Mount, ...]], after: Mapping[str, tuple[Mount, ...]]) -> Iterator[str]:
    for point in sorted(before.keys() | after.keys()):
        old, new = before.get(point, ()), after.get(point, ())
        if old == new or reviewed.excuses("mount", point):
            continue
        if not old or not new:
            yield f"{point}: {new[-1]} was mounted" if new else f"{point}: {old[-1]} is not mounted any more"
        else:
            yield f"{point}: was {', '.join(map(str, old))} and is {', '.join(map(str, new))}"


@check("kernel.swap", "memory that goes to a disk stays there, with every key in it")
def swap(case: Case) -> Result:
    """Memory is swapped to where it was before."""
    wrong = []
    for when, moment in case.moments():
        before, after = case.before.kernel.swaps, moment.kernel.swaps
        if before is None or after is None:
            raise CannotLook("the VM did not say where it swaps to")
        wrong += [f"memory is swapped to {name} ({when})" for name in sorted(after - before)]
        wrong += [f"memory is no longer swapped to {name} ({when})" for name in sorted(before - after)]
    return found(wrong)


@check("kernel.clock", "with a clock that is off, certificates are not valid yet or no more")
def clock(case: Case) -> Result:
    """The clock is as far from the host's as before."""
    for when, moment in case.moments():
        before, after = case.before.kernel.clock, moment.kernel.clock
        if before is None or after is None:
            raise CannotLook("the VM did not say what time it is")
        moved = after.ahead - before.ahead
        # One that was off and is set right by the time service is nobody's damage.
        is_right = abs(after.ahead) <= min(abs(before.ahead), after.margin + _WANDERS)
        if not is_right and abs(moved) > before.margin + after.margin + _WANDERS:
            way = "forward" if moved > 0 else "back"
            told = f"the clock was set {way} by {abs(moved):.0f} s ({when})"
            # The clock of a machine that was not run stands still, too.
            if moved < 0 and case.stalled_ms > LONG_STALL_MS:
                raise HostStoodStill(
                    f"{told}; this host itself stood still for {case.stalled_ms:.0f} ms meanwhile"
                )
            return Finding(told)
    return None
