"""The list of VMs that a person keeps. Light to import: ``sysvm vm exec`` needs no engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.errors import UsageError
from harness.host import runtime

if TYPE_CHECKING:
    from harness.guest.guest import SshGuest


@dataclass(frozen=True)
class KeptVm:
    """A kept VM, as later commands know it.

    Attributes:
        name: what the person calls it.
        run: id of the run that owns its machines.
        vm_type: type of the VM.
        release: CloudStack release that it runs.
        label: the template, with a stand-in base said.
        ssh_port: loopback port of its sshd.
        ssh_key: private key that logs in.
        folder: sockets and logs.
        endpoints: "address:port" of exposed public ports, and the loopback port that leads there.
        debian: another Debian than the release's own.
        network: the declared network, if another than the type's own.
        template: the image, if another than the reference template.
        golden: key of the golden snapshot that it came from; empty where none could be made of it.
        source: folder of the snapshot that it was restored from: a golden one, or a person's; empty likewise.
        tenants: its tenant machines.
        namespace: the network namespace with its segments, if they are bridges.
    """

    name: str
    run: str
    vm_type: str
    release: str
    label: str
    ssh_port: int
    ssh_key: str
    folder: str
    endpoints: dict[str, int]
    debian: int | None
    network: str | None
    template: str | None
    golden: str
    source: str
    tenants: list[str]
    namespace: str | None = None

    def domain(self, tenant: str = "") -> str:
        """Return the libvirt name of its machine, or of a tenant's."""
        from harness.host.hypervisor import PREFIX

        return "-".join(filter(None, [f"{PREFIX}{self.run}", self.name, tenant]))

    @property
    def console_log(self) -> Path:
        """Everything that the serial console printed."""
        return Path(self.folder) / "console.log"

    @property
    def console_socket(self) -> Path:
        """The serial console, live."""
        return Path(self.folder) / "console.sock"

    def guest(self) -> SshGuest:
        """Return a connection to it."""
        from harness.guest.guest import SshGuest

        return SshGuest(self.name, "127.0.0.1", self.ssh_port, Path(self.ssh_key))


def check_name(name: str) -> None:
    """Refuse a name that cannot be part of those of domains, sockets and folders.

    Raises:
        UsageError: it is such a name.
    """
    if not name.isascii() or not name.replace("-", "").isalnum() or len(name) > 24:
        raise UsageError(f"unusable name {name!r} (expected up to 24 letters, digits and dashes)")


def all_kept() -> list[KeptVm]:
    """Return the kept VMs, by name."""
    found = []
    for path in runtime.runs_folder().glob("*/kept.json"):
        document: dict[str, Any] = json.loads(path.read_text())
        found.append(KeptVm(**document))
    return sorted(found, key=lambda kept: kept.name)


def find(name: str) -> KeptVm:
    """Return the kept VM of that name.

    Raises:
        UsageError: there is none.
    """
    for kept in all_kept():
        if kept.name == name:
            return kept
    known = ", ".join(kept.name for kept in all_kept()) or "none"
    raise UsageError(f"no VM named {name!r} (there is {known})", hint="'sysvm vm start' makes one")
