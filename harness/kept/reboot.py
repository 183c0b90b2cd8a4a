"""The reboot of a VM that a person keeps, by whichever process: its host shuts it down and starts it again."""

from __future__ import annotations

from pathlib import Path

from bundle.errors import InfrastructureError
from harness.guest.guest import SshGuest
from harness.host.hypervisor import hypervisor
from harness.kept.listing import KeptVm
from harness.machine.machine import attach
from harness.vm import restart


def reboot(kept: KeptVm, guest: SshGuest) -> None:
    """Reboot a kept VM, and wait until it answers.

    Args:
        kept: the VM; it outlives this process as before.
        guest: its connection.

    Raises:
        RebootFailed: it does not shut down, and is left running; or it does not come up again.
        InfrastructureError: it does not run, or libvirt does not start it again.
    """
    with hypervisor() as host:
        machine = attach(host, kept.domain(), Path(kept.folder))
        try:
            restart.reboot(machine, guest, owned=False)
        except InfrastructureError as error:
            if machine.alive():
                raise
            ends = f"it is off now; 'sysvm vm stop {kept.name}' ends it"
            raise type(error)(str(error), hint=ends) from error
