"""The server's questions to a VM around a patch: services, role in a pair, version of the VM agent's archive."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bundle.errors import InfrastructureError
from harness.guest import documents
from harness.guest.collect import answered
from harness.guest.protocols import Guest
from harness.kvmagent.patch import BundleFiles
from harness.network.wire import FIRST_WORDS, first_word
from harness.observe import services

RedundancyRole: TypeAlias = Literal["PRIMARY", "BACKUP", "FAULT", "UNKNOWN"]
_MONITOR = "/opt/cloud/bin/getRouterMonitorResults.sh"
_MONITOR_DEADLINE = 120.0
_INSTALLED = "/var/lib/cloud-livepatch/installed.manifest"


def active_services(guest: Guest) -> frozenset[str]:
    """Return the words of ``enabled_svcs`` whose service is up.

    Raises:
        InfrastructureError: the guest cannot be asked, or has no such list.
    """
    found = services.parse(answered(guest, services.commands()))
    if not found.enabled:
        raise InfrastructureError(f"{guest.name}: /var/cache/cloud/enabled_svcs is missing or empty")
    up = (word for word in found.enabled if (service := found.get(word)) and service.is_active)
    return frozenset(up)


def role(guest: Guest, server: str | None = None) -> RedundancyRole:
    """Return the role of a router in its redundant pair, by its own ``checkrouter.sh``.

    Args:
        guest: the router.
        server: release of a server that asks: it knows the word of its own time alone, and takes the other for nothing;
            None asks for the role itself, whoever can read it.
    """
    done = guest.run("/opt/cloud/bin/checkrouter.sh", deadline=30, check=False)
    known: dict[str, RedundancyRole] = {"Status: BACKUP": "BACKUP", "Status: FAULT": "FAULT"}
    for word in FIRST_WORDS if server is None else (first_word(server),):
        known[f"Status: {word}"] = "PRIMARY"
    return next((role for start, role in known.items() if done.stdout.startswith(start)), "UNKNOWN")


def agent_is_stale(guest: Guest, bundle: BundleFiles) -> bool:
    """Return whether the installed agent is known to come from another ``agent.zip``.

    The signature covers ``cloud-scripts.tgz`` only, so a server that looks at nothing else misses an update of the
    agent. A VM that was never patched by our script does not say; that counts as current.

    Raises:
        InfrastructureError: it cannot be asked.
    """
    digest = _installed(guest, "archive.agent[.]zip").split()[-1:]
    return bool(digest) and digest[0] != hashlib.sha512(bundle.contents["agent.zip"]).hexdigest()


def installed_release(guest: Guest) -> str:
    """Return the release that our script installed last and that stands; empty for a VM that it never patched.

    Raises:
        InfrastructureError: it cannot be asked.
    """
    return "".join(_installed(guest, "release").split()[1:2])


def _installed(guest: Guest, key: str) -> str:
    """Return the lines of a key in the list of what our script installed last; empty without such a list."""
    return guest.run(f"[ ! -e {_INSTALLED} ] || grep '^{key}' {_INSTALLED} || [ $? -eq 1 ]").stdout


@dataclass(frozen=True)
class HealthCheck:
    """The result of one health check of a router.

    Attributes:
        name: of the check.
        kind: ``basic`` or ``advanced``.
        status: SUCCESS, FAILED, WARNING or UNKNOWN.
        at: when, seconds since 1970.
        details: what it said.
    """

    name: str
    kind: str
    status: str
    at: float
    details: str = ""


def _word(said: str) -> str:
    """Return the word for a result: until CloudStack 4.21 checks say true or false."""
    return {"true": "SUCCESS", "false": "FAILED"}.get(said, said)


def monitor(guest: Guest, *, fresh: bool = False) -> tuple[HealthCheck, ...]:
    """Return the results of a router's health checks, by its own ``getRouterMonitorResults.sh``.

    Args:
        guest: the router.
        fresh: make the checks first.

    Raises:
        InfrastructureError: it cannot be asked, or its answer cannot be read.
    """
    command = f"{_MONITOR} {'true' if fresh else 'false'}"
    done = guest.run(command, deadline=_MONITOR_DEADLINE, check=False)
    _, found, document = done.stdout.partition("MONITOR RESULTS:")
    if done.status != 0 or not found:
        said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[-1]
        raise InfrastructureError(f"{guest.name}: {command} ended with status {done.status}: {said}")
    try:
        return tuple(
            HealthCheck(
                name, kind, _word(row["success"]), int(row["lastUpdate"]) / 1000, row.get("message", "")
            )
            for kind, checks in documents.parse(document).items()
            for name, row in checks.items()
            if name != "lastRun"
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfrastructureError(
            f"{guest.name}: the results of its health checks are unreadable: {error}"
        ) from None
