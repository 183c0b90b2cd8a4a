"""One observation of a guest: everything that the checks compare, taken in a single round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.guest.collect import Section, collect
from harness.guest.protocols import Guest
from harness.observe import files, identity, journal, rules, services, sockets

_CACHE = "/var/cache/cloud"


@dataclass(frozen=True)
class Scripts:
    """What a guest says of the scripts that it runs; empty strings where it says nothing."""

    signature: str
    kept_md5: str
    kept_sha512: str
    template: str

    @property
    def kept_matches(self) -> bool:
        """Whether the kept archive is the one that the signature names."""
        return bool(self.signature) and self.signature in {self.kept_md5, self.kept_sha512}


@dataclass(frozen=True)
class Observation:
    """A guest at one moment."""

    state: files.Snapshot
    services: services.Services
    listeners: tuple[sockets.Listener, ...]
    rules: Mapping[str, rules.RuleSet]
    journal: journal.Journal
    identity: identity.Identity
    scripts: Scripts


def commands(since: str = "", folders: Sequence[str] = files.FOLDERS) -> dict[str, str]:
    """Return every command of an observation by the name of its section."""
    return {
        "scripts.signature": f"cat {_CACHE}/cloud-scripts-signature",
        "scripts.md5": "md5sum /usr/share/cloud/cloud-scripts.tgz",
        "scripts.sha512": "sha512sum /usr/share/cloud/cloud-scripts.tgz",
        "scripts.template": "cat /etc/cloudstack-release",
        **services.commands(),
        **sockets.commands(),
        **rules.commands(),
        **identity.commands(),
        **files.commands(folders),
        **journal.commands(since),
    }


def observe(
    guest: Guest,
    since: str = "",
    folders: Sequence[str] = files.FOLDERS,
    *,
    known: files.Snapshot | None = None,
    deadline: float = 300.0,
) -> Observation:
    """Observe a guest.

    Args:
        guest: the VM.
        since: the journal's cursor of an earlier observation; its lines from then on are brought along.
        folders: what the state digest covers.
        known: a state digest that still holds; none is taken then, which saves half of the time.
        deadline: seconds.

    Raises:
        InfrastructureError: the guest cannot say, or its answer is incomplete.
    """
    wanted = commands(since, folders)
    if known is not None:
        wanted = {name: command for name, command in wanted.items() if not name.startswith("state.")}
    return parse(collect(guest, wanted, deadline=deadline), folders, known=known, name=guest.name)


def parse(
    sections: Mapping[str, Section],
    folders: Sequence[str] = files.FOLDERS,
    *,
    known: files.Snapshot | None = None,
    name: str = "guest",
) -> Observation:
    """Turn the outputs of :func:`commands` into an observation.

    Raises:
        InfrastructureError: an output is incomplete.
    """
    return Observation(
        state=known or files.parse(sections, folders, name=name),
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
    )
