"""Power: the machine's process is killed, and the same disk boots again, as written so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.lab.faults.moments import PATIENCE, Moment, Watched, beside, watch
from harness.lab.faults.outside import outside
from harness.vm import restart
from harness.vm.system import SystemVm

# Seconds in which an emulated guest has written out what a patch changes.
_FLUSH = 120.0


@dataclass
class PowerCut:
    """A power cut and what became of it; ``where`` says for people when the power failed."""

    watched: Watched
    moment: Moment

    @property
    def where(self) -> str:
        """The moment at which the patch stood still before the power failed."""
        if not self.watched.met:
            return f"the patch had ended before {self.moment}"
        return f"at {self.moment}"


@outside(
    "power.cut",
    "the machine dies while the patch is at a moment; the same disk boots again at the fault's end",
)
def power_cut(
    vm: SystemVm, moment: Moment, patience: float = PATIENCE, flushed: bool = False
) -> Iterator[PowerCut]:
    """Let the patch stand still at a moment; cut the power then and boot again when the caller is done.

    The caller runs the patch within; its answer is a lost connection. A patch that ends before its moment has its
    power cut right after its end.

    Args:
        vm: whose power fails.
        moment: when.
        patience: seconds for the moment to come.
        flushed: whether what the guest has only in memory is written out first. Without it a power cut some seconds
            after the patch's last ``sync`` takes back what was done since.
    """
    with watch(vm, moment, "all", "STOP", patience) as seen:
        yield PowerCut(seen, moment)
    if flushed:
        guest = beside(vm, "flush")
        try:
            guest.run("sync", deadline=_FLUSH)
        finally:
            guest.close()
    boot_again(vm)


def boot_again(vm: SystemVm) -> None:
    """Cut the power of a VM at once, and start it from the disk that is left.

    Raises:
        RebootFailed: the guest does not boot.
        InfrastructureError: libvirt or QEMU does not do its part.
    """
    vm.machine = restart.cut_off(vm.machine, vm.guest)


def reboot(vm: SystemVm, cmdline: str = "", at_login: Callable[[], None] = lambda: None) -> None:
    """Shut a VM down in an orderly way, and start it from its disk.

    Args:
        vm: the VM.
        cmdline: boot parameters that it is handed, by a server that starts it.
        at_login: called when it lets somebody in; its boot may wait for what is done there.

    Raises:
        RebootFailed: the guest does not shut down, or does not boot.
        InfrastructureError: libvirt or QEMU does not do its part.
    """
    vm.machine = restart.reboot(vm.machine, vm.guest, cmdline=cmdline, at_login=at_login)
