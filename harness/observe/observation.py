"""One observation of a guest: everything that the checks compare, taken in a single round trip."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bundle.errors import InfrastructureError
from harness.guest.collect import Section, collect, of_file, unanswered
from harness.guest.protocols import DiskSource, Guest, disk_of
from harness.observe import (
    bytecode,
    conntrack,
    disk,
    files,
    identity,
    journal,
    kernel,
    processes,
    rules,
    services,
    sockets,
)

# Asked by itself, between two looks at the host's.
_CLOCK = "kernel.clock"
_CACHE = "/var/cache/cloud"
_KEPT = "/usr/share/cloud/cloud-scripts.tgz"
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
    """A guest at one moment.

    ``processes``, ``other_sockets`` and ``flows`` are None where the guest could not say; ``unanswered`` names every
    command that failed or was killed, with its exit status: of what it was about nothing is known. ``strange_code`` has
    the compiled modules of Python that were written since the earlier observation and are not their sources'.
    """

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
    unanswered: Mapping[str, int] = field(default_factory=dict)
    strange_code: tuple[str, ...] = ()


def commands(
    earlier: Observation | None = None, folders: Sequence[str] = files.FOLDERS, *, beside: bool = False
) -> dict[str, str]:
    """Return every command of an observation by the name of its section; ``beside``: the host reads the disk."""
    since = earlier.journal.cursor if earlier else ""
    return {
        "scripts.signature": of_file(f"{_CACHE}/cloud-scripts-signature"),
        "scripts.md5": of_file(_KEPT, "md5sum"),
        "scripts.sha512": of_file(_KEPT, "sha512sum"),
        "scripts.template": of_file("/etc/cloudstack-release"),
        **services.commands(),
        **sockets.commands(),
        **rules.commands(),
        **identity.commands(),
        **journal.commands(since),
        **processes.commands(),
        **kernel.commands(),
        **conntrack.commands(),
        # Last, for the host looks at the disk after it.
        **files.commands(folders, files.EVERYWHERE, earlier.state if earlier else None, beside=beside),
    }


def observe(
    guest: Guest,
    earlier: Observation | None = None,
    folders: Sequence[str] = files.FOLDERS,
    *,
    deadline: float = 120.0,
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
    shown = disk_of(guest)
    asked = commands(earlier, folders, beside=shown is not None)
    del asked[_CLOCK]
    sections = collect(guest, asked, beside=services.OF_SYSTEMD, deadline=deadline) | _clocks(guest, deadline)
    before, unread = earlier.state if earlier else None, ""
    if shown is not None:
        try:
            state = _by_host(shown, sections, folders, before, guest.name)
        except (InfrastructureError, *disk.UNREADABLE) as error:
            unread = str(error).splitlines()[0] if str(error) else type(error).__name__
            again = files.commands(folders, files.EVERYWHERE, before)
            sections = {**sections, **collect(guest, again, deadline=deadline)}
        else:
            return _with_code(
                guest, parse(sections, folders, name=guest.name, state=state), earlier, deadline
            )
    seen = parse(sections, folders, earlier=earlier, name=guest.name)
    state = seen.state if earlier is None else files.completed(guest, seen.state, deadline=deadline)
    return _with_code(guest, replace(seen, state=replace(state, unread=unread)), earlier, deadline)


def _with_code(guest: Guest, seen: Observation, earlier: Observation | None, deadline: float) -> Observation:
    """Return an observation with what is wrong with the compiled modules that were written since an earlier one."""
    if earlier is None:
        return seen
    told = bytecode.strange(guest, earlier.state, seen.state, deadline=deadline)
    names = tuple(name for name in told.text.split("\0") if name)
    return replace(
        seen, strange_code=names, unanswered={**seen.unanswered, **unanswered({told.name: told}, {})}
    )


def _clocks(guest: Guest, deadline: float) -> dict[str, Section]:
    """Return the clocks of guest and host, asked by themselves: what a round trip takes, nobody knows better."""
    began = time.time()
    told = guest.run(kernel.CLOCK, deadline=deadline, check=False)
    clocks = (
        Section(kernel.HOST_CLOCK, 0, f"{began} {time.time()}".encode()),
        Section(_CLOCK, told.status, told.stdout.encode()),
    )
    return {section.name: section for section in clocks}


def _by_host(
    shown: DiskSource,
    sections: Mapping[str, Section],
    folders: Sequence[str],
    earlier: files.DiskState | None,
    name: str,
) -> files.DiskState:
    """Return the state of a disk as the host reads it.

    Raises:
        InfrastructureError: it cannot, and errors of :data:`harness.observe.disk.UNREADABLE`.
    """
    if sections["state.written"].status != 0:
        raise InfrastructureError("it does not write out what it keeps in memory")
    with shown() as blocks:
        return files.parse(sections, folders, earlier=earlier, name=name, blocks=blocks)


def parse(
    sections: Mapping[str, Section],
    folders: Sequence[str] = files.FOLDERS,
    *,
    earlier: Observation | None = None,
    name: str = "guest",
    state: files.DiskState | None = None,
) -> Observation:
    """Turn the outputs of :func:`commands` into an observation; ``state`` is the disk's, where the host has read it.

    Raises:
        InfrastructureError: an output is incomplete, or none of its program's.
    """
    try:
        if state is None:
            before = earlier.state if earlier else None
            state = files.parse(sections, folders, earlier=before, name=name)
        return _parsed(sections, state, name)
    except _UNREADABLE as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InfrastructureError(f"{name}: what its programs printed cannot be read ({said})") from None


def _parsed(sections: Mapping[str, Section], state: files.DiskState, name: str) -> Observation:
    return Observation(
        state=state,
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
        unanswered=unanswered(sections, commands()),
    )
