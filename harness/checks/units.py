"""Units of every type: systemd was told nothing but what the bundle says, has read it, each stands as before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from harness.checks.case import Case
from harness.checks.registry import Result, Skip, check, found
from harness.observe import reviewed
from harness.observe.units import Unit

# What comes with the first of the services that rules start: cloud-password-server@ of an address, for one.
_BY_RULES = re.compile(r"system-cloud\\x2dpassword\\x2dserver\.slice")
_NONE_KNOWN = Skip("the VM names no unit at all")
_NONE_BEFORE = Skip("the VM named no unit before")


@check("units.settings", "a limit or a command that nobody shipped makes a service another one")
def settings(case: Case) -> Result:
    """Every unit is told what it was told before, but where the bundle has another file for it."""
    if not case.before.services.units:
        return _NONE_BEFORE
    wrong = []
    for when, moment in case.moments():
        for name, before, after in _pairs(case.before.services.units, moment.services.units):
            if before and after and before.load == after.load == "loaded" and not _ships(case, before, after):
                lines = [f"{name}: {line} ({when})" for line in _changes(before, after)]
                wrong += lines if lines and not reviewed.excuses("unit", name) else []
    return found(wrong)


def _changes(before: Unit, after: Unit) -> Iterator[str]:
    for name in sorted(before.settings.keys() | after.settings.keys()):
        old, new = before.settings.get(name, "nothing"), after.settings.get(name, "nothing")
        if old != new:
            yield f"{name} was {_short(old)} and is {_short(new)}"


@check(
    "units.read", "a unit that was changed and not read again changes at the next reboot, when nobody looks"
)
def read(case: Case) -> Result:
    """Systemd has read the newest files of every unit, if it had before."""
    if not case.after.services.units:
        return _NONE_KNOWN
    wrong = [
        f"{name}: its files were changed and systemd was not told to read them ({when})"
        for when, moment in case.moments()
        for name, before, after in _pairs(case.before.services.units, moment.services.units)
        if after and after.stale and not (before and before.stale) and not reviewed.excuses("unit", name)
    ]
    return found(wrong)


@check("units.masked", "a service that systemd may not start any more is down from its next stop on")
def masked(case: Case) -> Result:
    """Every unit that systemd could start can be started still, but where the bundle drops it."""
    if not case.before.services.units:
        return _NONE_BEFORE
    return found(
        [
            f"{name} was {before.load} and is {after.load} ({when})"
            for when, moment in case.moments()
            for name, before, after in _pairs(case.before.services.units, moment.services.units)
            if before and after and before.load == "loaded" != after.load and not _ships(case, before, after)
            and not reviewed.excuses("unit", name)
        ]
    )  # fmt: skip


@check("units.same", "a timer that is gone rotates no log; a mount or a socket that is new serves somebody")
def same(case: Case) -> Result:
    """The units that are no services are the ones from before, and as active as before."""
    if not case.before.services.units:
        return _NONE_BEFORE
    wrong = []
    for when, moment in case.moments():
        for name, before, after in _pairs(case.before.services.units, moment.services.units):
            old, new = _state(before), _state(after)
            mine = not name.endswith(".service") and not _ships(case, before, after)
            mine = mine and not (
                moment is not case.patched and old == "inactive" and _BY_RULES.fullmatch(name)
            )
            if old != new and mine and not reviewed.excuses("unit", name):
                wrong.append(f"{name} was {old} and is {new} ({when})")
    return found(wrong)


def _pairs(
    before: Mapping[str, Unit], after: Mapping[str, Unit]
) -> Iterator[tuple[str, Unit | None, Unit | None]]:
    for name in sorted(before.keys() | after.keys()):
        yield name, before.get(name), after.get(name)


def _ships(case: Case, *units: Unit | None) -> bool:
    """True if the bundle, this one or the one before, has a file that describes the unit: that may change it."""
    if case.expected == "kept":
        return False
    return any(path in case.new or path in case.old for unit in units if unit for path in unit.files)


def _state(unit: Unit | None) -> str:
    # One that is not active is in memory only while somebody names it.
    return unit.active if unit and unit.active != "inactive" else "inactive"


def _short(value: str) -> str:
    return value if len(value) <= 160 else f"{value[:160]}…"
