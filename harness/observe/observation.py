"""One observation of a guest: everything that the checks compare, taken in a single round trip."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bundle.errors import InfrastructureError
from harness.guest.collect import Section, collect
from harness.guest.protocols import Guest
from harness.observe import conntrack, files, identity, journal, kernel, processes, rules, services, sockets

_CACHE = "/var/cache/cloud"
# What parsers stumble over in the outputs of a guest whose programs are broken, or lie.
_UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
)


@dataclass(frozen=True)
class Scripts:
    """A guest's statement of the scripts that it runs; empty strings where it says nothing."""

    signature: str
    kept_md5: str
    kept_sha512: str
    template: str

    @property
    def kept_matches(self) -> bool:
        """True if the kept archive is the one that the signature names."""
        return bool(self.signature) and self.signature in {self.kept_md5, self.kept_sha512}


@dataclass(frozen=True)
class Observation:
    """A guest at one moment. ``processes``, ``other_sockets`` and ``flows`` are None where the guest could not say."""

    state: files.DiskState
    services: services.Services
    listeners: tuple[sockets.Listener, ...]
    rules: Mapping[str, rules.RuleSet]
    journal: journal.Journal
    identity: identity.Identity
    scripts: Scripts
    kernel: kernel.KernelState
    processes: tuple[processes.Program, ...] | None
    other_sockets: frozenset[str] | None
    flows: Mapping[conntrack.TrackedConnection, str] | None


def commands(earlier: Observation | None = None, folders: Sequence[str] = files.FOLDERS) -> dict[str, str]:
    """Return every command of an observation by the name of its section."""
    since = earlier.journal.cursor if earlier else ""
    return {
        "scripts.signature": f"cat {_CACHE}/cloud-scripts-signature",
        "scripts.md5": "md5sum /usr/share/cloud/cloud-scripts.tgz",
        "scripts.sha512": "sha512sum /usr/share/cloud/cloud-scripts.tgz",
        "scripts.template": "cat /etc/cloudstack-release",
        **services.commands(),
        **sockets.commands(),
        **rules.commands(),
        **identity.commands(),
        **files.commands(folders, files.EVERYWHERE, earlier.state if earlier else None),
        **journal.commands(since),
        **processes.commands(),
        **kernel.commands(),
        **conntrack.commands(),
    }


def observe(
    guest: Guest,
    earlier: Observation | None = None,
    folders: Sequence[str] = files.FOLDERS,
    *,
    deadline: float = 300.0,
) -> Observation:
    """Observe a guest.

    Args:
        guest: the VM.
        earlier: an earlier observation of it: the journal's lines since then are brought along, and only files that
            changed since then are read again.
        folders: whose content must be known.
        deadline: seconds.

    Raises:
        InfrastructureError: the guest cannot say, or its answer is incomplete.
    """
    began = time.time()
    sections = collect(guest, commands(earlier, folders), deadline=deadline)
    clocks = Section(kernel.HOST_CLOCK, 0, f"{began} {time.time()}".encode())
    seen = parse({**sections, clocks.name: clocks}, folders, earlier=earlier, name=guest.name)
    return (
        seen
        if earlier is None
        else replace(seen, state=files.completed(guest, seen.state, deadline=deadline))
    )


def parse(
    sections: Mapping[str, Section],
    folders: Sequence[str] = files.FOLDERS,
    *,
    earlier: Observation | None = None,
    name: str = "guest",
) -> Observation:
    """Turn the outputs of :func:`commands` into an observation.

    Raises:
        InfrastructureError: an output is incomplete, or none of its program's.
    """
    try:
        return _parsed(sections, folders, earlier, name)
    except _UNREADABLE as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InfrastructureError(f"{name}: what its programs printed cannot be read ({said})") from None


def _parsed(
    sections: Mapping[str, Section], folders: Sequence[str], earlier: Observation | None, name: str
) -> Observation:
    return Observation(
        state=files.parse(sections, folders, earlier=earlier.state if earlier else None, name=name),
        services=services.parse(sections),
        listeners=sockets.parse(sections),
        rules=rules.parse(sections),
        journal=journal.parse(sections, name),
        identity=identity.parse(sections),
        scripts=Scripts(
            signature=sections["scripts.signature"].text.strip(),
            kept_md5=sections["scripts.md5"].text.partition(" ")[0],
            kept_sha512=sections["scripts.sha512"].text.partition(" ")[0],
            template=sections["scripts.template"].text.strip(),
        ),
        kernel=kernel.parse(sections),
        processes=processes.parse(sections),
        other_sockets=sockets.parse_others(sections),
        flows=conntrack.parse(sections),
    )
