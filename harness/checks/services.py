"""Services: those that had to be renewed are, the others are left alone, none is worse off than before."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from bundle import catalogue
from harness.checks.case import Case
from harness.checks.registry import Finding, Result, Skip, check
from harness.observe.observation import Observation
from harness.observe.services import Service, ServiceChange

# Services that come and go by themselves, or with a login.
_PASSING = re.compile(
    r"(user@\d+|user-runtime-dir@\d+|(serial-)?getty@.*|systemd-(timedated|hostnamed|tmpfiles-clean)"
    r"|cloud-livepatch-recover)\.service"
)
# What finishes or undoes a patch at boot, and at no other time.
_AT_BOOT = "cloud-livepatch-recover.service"
# Services whose workers are logins or jobs, which come and go: only their main process counts.
_SESSIONS = frozenset({"ssh.service", "sshd.service", "cron.service"})
_NONE_KNOWN = Skip("the VM names no service at all")
# What sending rules again starts or renews by itself, beside services that the catalogue says it of.
_BY_RULES = re.compile(r"(cloud-password-server@.*|strongswan.*|ipsec|xl2tpd)\.service")


def _is_by_rules(unit: str) -> bool:
    row = catalogue.load().service_rows.get(unit.removesuffix(".service"))
    return bool(_BY_RULES.fullmatch(unit)) or (row is not None and row.by_rules)


def renewed(case: Case) -> Iterator[tuple[str, Service, ServiceChange]]:
    """Yield word, service and change of each service that ``enabled_svcs`` names and that was up before."""
    for word in case.before.services.enabled or ():
        before = case.before.services.get(word)
        if before is None or not before.is_active or word in case.absent:
            continue
        after = case.patched.services.get(word)
        change = before.renewed_as(after, case.patched.listeners) if after else "stopped"
        yield word, before, change


@check("services.listed", "without its list of services a VM restarts nothing and calls that a success")
def listed(case: Case) -> Result:
    """The guest has a list of services to restart, the same as before."""
    before, after = case.before.services.enabled, case.patched.services.enabled
    if not before and not after and case.expected == "kept":
        return Skip("the VM had no such list before, and was not patched")
    if not after:
        return Finding("/var/cache/cloud/enabled_svcs is missing or empty")
    if before is not None and before != after:
        return Finding(f"it named {' '.join(before)} and names {' '.join(after)}")
    return None


@check(
    "services.renewed",
    "a service on its old process runs the code that the patch was to replace",
    ("patched",),
)
def all_renewed(case: Case) -> Result:
    """Every service that enabled_svcs names and that was up has new processes."""
    wrong = []
    rows = list(renewed(case))
    if not rows:
        return Skip("no service that enabled_svcs names was up before")
    for word, before, change in rows:
        if change == "restarted" or (change == "reloaded" and word in case.graceful):
            continue
        if change == "unchanged" and case.may_stay(word):
            continue
        if change == "reloaded":
            wrong.append(f"{word} was only reloaded: its main process {before.main_pid} is the old one")
        elif change == "unchanged":
            wrong.append(f"{word} still runs on its old process {before.main_pid}")
        else:
            wrong.append(f"{word} is {change}")
    return Finding("; ".join(wrong)) if wrong else None


@check("services.up", "a service that is down after the patch is an outage")
def up(case: Case) -> Result:
    """Every service that was up before is up after, whether the patch succeeded or not."""
    were_up = [
        service
        for service in case.before.services.by_name.values()
        if service.name not in _absent(case) and service.is_active and not _PASSING.fullmatch(service.name)
    ]
    if not were_up:
        return Skip("no service was up before")
    down = [
        f"{service.name} was active and is {_state(moment.services.by_name.get(service.name))}{when}"
        for when, moment in _moments(case)
        for service in were_up
        if not _is_up(moment.services.by_name.get(service.name))
        # What has ended well may have had to do at an earlier boot only.
        and not (service.sub == "exited" and _boot(moment) != _boot(case.before))
    ]
    return Finding("; ".join(down), tuple(down)) if down else None


def _boot(moment: Observation) -> str | None:
    return (moment.kernel.settings or {}).get("kernel/random/boot_id")


def _moments(case: Case) -> list[tuple[str, Observation]]:
    """Return the observations after the patch; of two, the first with its name."""
    *first, (_, last) = case.moments()
    return [*((f" ({when})", moment) for when, moment in first), ("", last)]


@check(
    "services.stable", "a service that dies seconds after its start was not patched but broken", ("patched",)
)
def stable(case: Case) -> Result:
    """No named service had to be restarted by systemd."""
    flapping = []
    named = case.after.services.enabled or ()
    if not any(case.after.services.get(word) for word in named):
        return Skip("the VM has no service that enabled_svcs names")
    for word in (word for word in named if word not in case.absent):
        before, after = case.before.services.get(word), case.after.services.get(word)
        # The counter starts again with a manual start, so after one any value counts.
        known = before.restarts if before and after and before.invocation == after.invocation else 0
        if after and after.restarts > known:
            flapping.append(f"systemd restarted {word} by itself {after.restarts - known} times")
    return Finding("; ".join(flapping)) if flapping else None


@check("services.untouched", "a restart that nobody ordered is a gap that nobody planned")
def untouched(case: Case) -> Result:
    """Services that enabled_svcs does not name keep their processes."""
    named = {
        service.name
        for word in case.before.services.enabled or ()
        if (service := case.before.services.get(word))
    }
    wrong = []
    others = {
        name: service
        for name, service in case.before.services.by_name.items()
        if name not in named and service.sub == "running" and not _PASSING.fullmatch(name)
    }
    if not others:
        return Skip("no service but those that enabled_svcs names ran before")
    for (name, before), (when, moment) in itertools.product(others.items(), case.moments()):
        after = moment.services.by_name.get(name)
        change = before.renewed_as(after, moment.listeners) if after else "stopped"
        if (change == "reloaded" and name in _SESSIONS) or (
            moment is not case.patched and _is_by_rules(name)
        ):
            continue
        if change not in {"unchanged", "stopped"}:  # one that is down is what services.up reports
            wrong.append(f"{name} was {change} ({when})")
    return Finding("; ".join(wrong)) if wrong else None


@check("services.not-started", "a service that was off on purpose does not belong on the network")
def not_started(case: Case) -> Result:
    """Services that were down before stay down, and are switched on at boot as before."""
    wrong = []
    if not case.after.services.by_name:
        return _NONE_KNOWN
    for name, after in case.after.services.by_name.items():
        before = case.before.services.by_name.get(name)
        if name in _absent(case):
            continue
        passing = (_PASSING.fullmatch(name) and name != _AT_BOOT) or (
            case.after is not case.patched and _is_by_rules(name)
        )
        if _is_at_work(before, after) and not (before and before.is_active) and not passing:
            what = "runs" if after.sub == "running" else f"is {_state(after)}"
            wrong.append(f"{name} was {_state(before)} and {what}")
        if (
            before
            and before.load == after.load == "loaded"
            and before.enabled != after.enabled
            and not passing
        ):
            wrong.append(f"{name} was {before.enabled or 'static'} and is {after.enabled or 'static'}")
    return Finding("; ".join(wrong)) if wrong else None


@check("services.none-failed", "a failed unit is an alarm that somebody has to look at")
def none_failed(case: Case) -> Result:
    """No unit has failed that had not failed before."""
    new = case.after.services.failed - case.before.services.failed - _absent(case)
    if new:
        return Finding(f"failed units: {', '.join(sorted(new))}")
    if not case.after.services.by_name:
        return _NONE_KNOWN
    if still := case.after.services.failed:
        return Skip(f"failed before the patch already: {', '.join(sorted(still))}")
    return None


def _absent(case: Case) -> set[str]:
    """Return the units of services that cannot run in this VM."""
    rows = (case.before.services.get(word) for word in case.absent)
    return {row.name for row in rows if row is not None}


def _is_at_work(before: Service | None, after: Service) -> bool:
    """True if it runs; one that nobody knew before also if it only begins to, as a transient one does for ever."""
    known = before is not None and before.load == "loaded"
    return after.sub == "running" or (
        not known and (bool(after.processes) or after.active not in {"inactive", "failed"})
    )


def _is_up(service: Service | None) -> bool:
    return service is not None and service.is_active


def _state(service: Service | None) -> str:
    return f"{service.active} ({service.sub})" if service else "unknown"
