"""Upkeep: what the server and the VM itself do all the time, such as versions, health checks, rotation of logs."""

from __future__ import annotations

import json
import re

from bundle.errors import InfrastructureError
from harness.guest.protocols import Guest
from harness.kvmagent.patch import Versions, ask_versions
from harness.network.wire import first_word

_RESULTS = "/opt/cloud/bin/getRouterMonitorResults.sh"
_ROLE = "/opt/cloud/bin/checkrouter.sh"
# What a check says of itself when all is well: guests up to 4.21, and those of 4.22.
_WELL = {"true", "SUCCESS"}
_CHECKS_DEADLINE = 180.0
_ROTATE_DEADLINE = 120.0


def versions(guest: Guest, signature: str) -> tuple[Versions | None, str]:
    """Return the versions that a VM tells, and what is wrong with them: it must run the scripts with that signature."""
    try:
        told = ask_versions(guest)
    except InfrastructureError as error:
        return None, str(error)
    if told.scripts != signature:
        return told, f"it says that it runs {told.scripts[:16]}…, not {signature[:16]}…"
    return told, "" if told.template else "it names no template"


def health(guest: Guest) -> str:
    """Return what is wrong with the health checks, run and read as the server does: the first that is not well."""
    told = guest.run("date +%s", deadline=30, check=False).stdout.strip()
    if not told.isdigit():
        return f"it does not tell the time: {told[:80]!r}"
    done = guest.run(f"{_RESULTS} true", deadline=_CHECKS_DEADLINE, check=False)
    return read_health(done.status, done.stdout, done.stderr, since=int(told))


def read_health(status: int, output: str, errors: str = "", *, since: float = 0.0) -> str:
    """Return what is wrong with the answer of ``getRouterMonitorResults.sh``.

    A result of before the guest's clock was ``since``, in seconds, is none: the job of cron may have left it.
    """
    head, found, text = output.partition("MONITOR RESULTS:")
    if status != 0 or not found or not head.startswith("FAILING CHECKS:"):
        last = (errors.strip() or output.strip() or "nothing").splitlines()[-1]
        return f"{_RESULTS} ended with status {status} and said {last[:160]!r}"
    try:
        results = json.loads("".join(text.split("\n")))
        wrong = [
            f"{name} says {row['success']}: {row['message']}"
            for kind in ("basic", "advanced")
            for name, row in sorted(results[kind].items())
            if name != "lastRun" and row["success"] not in _WELL
        ]
        old = [
            (kind, name)
            for kind in ("basic", "advanced")
            for name, row in sorted(results[kind].items())
            if name != "lastRun" and int(row["lastUpdate"]) / 1000 < since
        ]
        empty = [
            kind
            for kind in ("basic", "advanced")
            if len(results[kind]) - [k for k, _ in old].count(kind) <= 1
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"the server cannot read the results: {type(error).__name__}: {error}"
    if wrong:
        return wrong[0] if len(wrong) == 1 else f"{wrong[0]} (and {len(wrong) - 1} more)"
    if empty:
        return f"no {empty[0]} check has a result"
    if old:
        return f"{old[0][1]} has no result since it was asked for"
    failing = " ".join(head.removeprefix("FAILING CHECKS:").split())
    return f"{failing} is told to fail, no result says so" if failing else ""


def role(guest: Guest, release: str) -> str | None:
    """Return what is wrong with the role that a router tells a server; None where it has no such script."""
    done = guest.run(f"[ -e {_ROLE} ] || exit 127; {_ROLE}", deadline=30, check=False)
    if done.status == 127 and not done.stdout:
        return None
    told = re.match(rf"Status: ({first_word(release)}|BACKUP|FAULT)\b", done.stdout)
    return "" if told else f"checkrouter.sh says {done.stdout.strip()[:80]!r}, status {done.status}"


def rotation(guest: Guest) -> str | None:
    """Return what is wrong when the logs are rotated as the VM's timer does, but now; None where nothing rotates them.

    The state lies elsewhere, so that the timer's own turn is left as it is.
    """
    command = (
        "command -v logrotate >/dev/null || exit 127; "
        "logrotate --force --state /run/later-rotation /etc/logrotate.conf 2>&1; s=$?; "
        "rm -f /run/later-rotation; exit $s"
    )
    done = guest.run(command, deadline=_ROTATE_DEADLINE, check=False)
    if done.status == 127:
        return None
    said = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    if done.status == 0 and not said:
        return ""
    return f"logrotate ended with status {done.status}: {(said or done.stdout.splitlines() or ['nothing'])[0][:160]}"
