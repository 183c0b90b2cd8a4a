"""The server's questions to a VM around a patch: services, role in a pair, version of the VM agent's archive."""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

from bundle.errors import InfrastructureError
from harness.guest.collect import collect
from harness.guest.protocols import Guest
from harness.kvmagent.patch import BundleFiles
from harness.observe import services

RedundancyRole: TypeAlias = Literal["PRIMARY", "BACKUP", "FAULT", "UNKNOWN"]
_INSTALLED = "/var/lib/cloud-livepatch/installed.manifest"


def active_services(guest: Guest) -> frozenset[str]:
    """Return the words of ``enabled_svcs`` whose service is up.

    Raises:
        InfrastructureError: the guest cannot be asked, or has no such list.
    """
    found = services.parse(collect(guest, services.commands()))
    if not found.enabled:
        raise InfrastructureError(f"{guest.name}: /var/cache/cloud/enabled_svcs is missing or empty")
    up = (word for word in found.enabled if (service := found.get(word)) and service.is_active)
    return frozenset(up)


def role(guest: Guest) -> RedundancyRole:
    """Return the role of a router in its redundant pair, by its own ``checkrouter.sh``."""
    done = guest.run("/opt/cloud/bin/checkrouter.sh", deadline=30, check=False)
    word = done.stdout.strip().removeprefix("Status:").strip()
    known: dict[str, RedundancyRole] = {"PRIMARY": "PRIMARY", "BACKUP": "BACKUP", "FAULT": "FAULT"}
    return known.get(word, "UNKNOWN")


def agent_is_stale(guest: Guest, bundle: BundleFiles) -> bool:
    """Return whether the installed agent is known to come from another ``agent.zip``.

    The signature covers ``cloud-scripts.tgz`` only, so a server that looks at nothing else misses an update of the
    agent. A VM that was never patched by our script does not say; that counts as current.
    """
    done = guest.run(f"grep -s '^archive.agent[.]zip' {_INSTALLED}", check=False)
    digest = done.stdout.split()[-1:]
    return bool(digest) and digest[0] != hashlib.sha512(bundle.contents["agent.zip"]).hexdigest()
