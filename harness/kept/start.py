"""Starting system VMs that a person keeps between commands; ``listing`` finds them again, ``stop`` ends them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from bundle.errors import UsageError
from harness.host import locks, runtime
from harness.kept.listing import KeptVm, all_kept, check_name
from harness.lab.golden_maker import Leaving
from harness.lab.lab import Lab, open_lab
from harness.lab.wish import Wish
from harness.record import results
from harness.record.events import EventLog
from harness.vm.system import SystemVm


def start(name: str, wish: Wish, restore: Callable[[Lab, str], tuple[SystemVm, Path]]) -> KeptVm:
    """Start a VM that outlives this process.

    Args:
        name: what the person calls it.
        wish: type and release.
        restore: makes a copy of that name; returns it and the folder of the snapshot that it is a copy of.

    Raises:
        UsageError: the name is taken or unusable.
    """
    check_name(name)
    # What it may be patched with is nobody's question yet.
    wish = replace(wish, subject=replace(wish.subject, mixed=True))
    with locks.exclusive(runtime.state_root() / "names.lock"):
        if any(kept.name == name for kept in all_kept()):
            raise UsageError(f"a VM named {name!r} is there already", hint=f"'sysvm vm stop {name}' ends it")
        starts = runtime.state_root() / "starts"
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
                kept = _facts(
                    name, vm, wish, run=lab.engine.run.id, label=lab.image.label(), golden=lab.golden.folder.name,
                    source=str(source),
                )  # fmt: skip
                runtime.keep(lab.engine.run.path, asdict(kept))
        except BaseException:
            console = sorted(record.folder.glob("logs/**/*console.log"))
            if not console:
                shutil.rmtree(record.folder, ignore_errors=True)
            raise
        shutil.rmtree(record.folder, ignore_errors=True)
        (record.folder.parent / "latest").unlink(missing_ok=True)
    return kept


def from_golden(lab: Lab, name: str) -> tuple[SystemVm, Path]:
    """Restore what a VM of that type is right after its boot."""
    return lab.restore(name), lab.golden.folder


def leaving(wish: Wish) -> Leaving:
    """Return how a VM of that wish stays when no golden snapshot can be made of it.

    Raises:
        UsageError: one stays from before.
    """
    name = f"failed-{wish.vm_type}"
    if any(kept.name == name for kept in all_kept()):
        raise UsageError(f"{name} is still there from before", hint=f"'sysvm vm stop {name}' ends it")

    def record(vm: SystemVm, key: Path, run: runtime.RuntimeFolder) -> str:
        # The folder of the snapshot goes; the machine keeps what it has opened there.
        own = Path(shutil.copyfile(key, run.path / key.name))
        own.chmod(0o600)
        kept = _facts(
            name, vm, wish, run=run.id, label="no snapshot of it could be made", golden="", source=""
        )
        runtime.keep(run.path, asdict(replace(kept, ssh_key=str(own))))
        return f"{name} is left running: 'sysvm vm ssh {name}' enters it, 'sysvm vm stop {name}' ends it"

    return Leaving(name, record)


def _facts(name: str, vm: SystemVm, wish: Wish, *, run: str, label: str, golden: str, source: str) -> KeptVm:
    control = vm.topology.control.address
    exposed = {
        f"{address}:{port}": host for (address, port), host in vm.endpoints.items() if address != control
    }
    return KeptVm(
        name=name, run=run, vm_type=wish.vm_type, release=wish.from_release, label=label,
        ssh_port=vm.guest.port, ssh_key=str(vm.guest.key), folder=str(vm.machine.folder), endpoints=exposed,
        debian=wish.debian, network=wish.network, template=wish.template, golden=golden, source=source,
        tenants=list(vm.tenant_machines), namespace=vm.namespace,
    )  # fmt: skip
