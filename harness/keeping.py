"""System VMs that a person keeps between commands: started by name, found again by name, stopped by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundle.errors import UsageError
from harness import locks, reaper, results, rundir
from harness.daemon import PREFIX, Hypervisor, hypervisor
from harness.engine import SystemVm
from harness.events import EventLog
from harness.guest import Guest
from harness.lab import Lab, Wish, open_lab


@dataclass(frozen=True)
class Kept:
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
        golden: key of the golden snapshot that it came from.
        source: folder of the snapshot that it was restored from: a golden one, or a person's.
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
        return "-".join(filter(None, [f"{PREFIX}{self.run}", self.name, tenant]))

    @property
    def console_log(self) -> Path:
        """Everything that the serial console printed."""
        return Path(self.folder) / "console.log"

    @property
    def console_socket(self) -> Path:
        """The serial console, live."""
        return Path(self.folder) / "console.sock"

    def guest(self) -> Guest:
        """Return a connection to it."""
        return Guest(self.name, "127.0.0.1", self.ssh_port, Path(self.ssh_key))


def start(name: str, wish: Wish, restore: Callable[[Lab, str], tuple[SystemVm, Path]]) -> Kept:
    """Start a VM that outlives this process.

    Args:
        name: what the person calls it.
        wish: type and release.
        restore: makes a copy of that name; returns it and the folder of the snapshot that it is a copy of.

    Raises:
        UsageError: the name is taken or unusable.
    """
    check_name(name)
    with locks.exclusive(rundir.state_root() / "names.lock"):
        if any(kept.name == name for kept in all_kept()):
            raise UsageError(f"a VM named {name!r} is there already", hint=f"'sysvm vm stop {name}' ends it")
        starts = rundir.state_root() / "starts"
        # What an earlier start left that was killed, or that failed.
        shutil.rmtree(starts, ignore_errors=True)
        record = results.create(starts)
        try:
            with (
                EventLog(record.events) as events,
                open_lab(wish, record, events, owned=False) as lab,
            ):
                vm, source = restore(lab, name)
                vm.guest.run("true")  # sets the clock, which no later process would
                kept = _facts(name, vm, lab, source)
                rundir.keep(lab.engine.run.path, asdict(kept))
        except BaseException:
            console = sorted(record.folder.glob("logs/**/*console.log"))
            if not console:
                shutil.rmtree(record.folder, ignore_errors=True)
            raise
        shutil.rmtree(record.folder, ignore_errors=True)
        (record.folder.parent / "latest").unlink(missing_ok=True)
    return kept


def check_name(name: str) -> None:
    """Refuse a name that cannot be part of those of domains, sockets and folders.

    Raises:
        UsageError: it is such a name.
    """
    if not name.isascii() or not name.replace("-", "").isalnum() or len(name) > 24:
        raise UsageError(f"unusable name {name!r} (expected up to 24 letters, digits and dashes)")


def from_golden(lab: Lab, name: str) -> tuple[SystemVm, Path]:
    """Restore what a VM of that type is right after its boot."""
    return lab.restore(name), lab.golden.folder


def _facts(name: str, vm: SystemVm, lab: Lab, source: Path) -> Kept:
    wish = lab.wish
    control = vm.topology.control.address
    exposed = {
        f"{address}:{port}": host for (address, port), host in vm.endpoints.items() if address != control
    }
    return Kept(
        name=name, run=lab.engine.run.id, vm_type=wish.vm_type, release=wish.from_release, label=lab.image.label(),
        ssh_port=vm.guest.port, ssh_key=str(vm.guest.key), folder=str(vm.machine.folder), endpoints=exposed,
        debian=wish.debian, network=wish.network, template=wish.template, golden=lab.golden.folder.name,
        source=str(source), tenants=list(vm.tenant_machines), namespace=vm.namespace,
    )  # fmt: skip


def all_kept() -> list[Kept]:
    """Return the kept VMs, by name."""
    found = []
    for path in rundir.runs_folder().glob("*/kept.json"):
        document: dict[str, Any] = json.loads(path.read_text())
        found.append(Kept(**document))
    return sorted(found, key=lambda kept: kept.name)


def find(name: str) -> Kept:
    """Return the kept VM of that name.

    Raises:
        UsageError: there is none.
    """
    for kept in all_kept():
        if kept.name == name:
            return kept
    known = ", ".join(kept.name for kept in all_kept()) or "none"
    raise UsageError(f"no VM named {name!r} (there is {known})", hint="'sysvm vm start' makes one")


def stop(kept: Kept) -> None:
    """End a kept VM and remove everything that belongs to it."""
    with hypervisor() as host:
        run = rundir.RunDir(kept.run, rundir.runs_folder() / kept.run)
        (run.path / "kept.json").unlink(missing_ok=True)
        reaper.close_run(host, run)
        shutil.rmtree(run.path, ignore_errors=True)
        reaper.reap(host)


@contextmanager
def alive() -> Iterator[tuple[Hypervisor, set[str]]]:
    """Yield libvirt and the run ids that have a running domain."""
    with hypervisor() as host:
        yield host, {domain.name().removeprefix(PREFIX).split("-", 1)[0] for domain in host.domains()}
