"""Power: the machine's process is killed, and the same disk boots again, as written so far."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import libvirt

from harness.guest.connection import ConnectionLost
from harness.host import wait
from harness.host.hypervisor import asking
from harness.lab.faults.moments import PATIENCE, Moment, Watched, watch
from harness.lab.faults.outside import outside
from harness.vm import boot
from harness.vm.system import SystemVm

_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_BOOT_DEADLINE = 300.0
_DOWN_DEADLINE = 120.0


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
def power_cut(vm: SystemVm, moment: Moment, patience: float = PATIENCE) -> Iterator[PowerCut]:
    """Let the patch stand still at a moment; cut the power then and boot again when the caller is done.

    The caller runs the patch within; its answer is a lost connection. A patch that ends before its moment has its
    power cut right after its end.

    Args:
        vm: whose power fails.
        moment: when.
        patience: seconds for the moment to come.
    """
    with watch(vm, moment, "all", "STOP", patience) as seen:
        yield PowerCut(seen, moment)
    boot_again(vm)


def boot_again(vm: SystemVm) -> None:
    """Cut the power of a VM at once, and start it from the disk that is left.

    What the guest had not written out is lost, for its disk has no cache on the host.

    Raises:
        InfrastructureError: it does not boot.
    """
    document, connection = _definition(vm), vm.machine.handle.connect()
    vm.machine.crash()
    _start(vm, document, connection)


def reboot(vm: SystemVm, at_login: Callable[[], None] = lambda: None) -> None:
    """Shut a VM down in an orderly way, and start it from its disk: what a host does to reboot a VM.

    A reset within a machine that was restored ends QEMU 7.2 by a segmentation fault under emulation.

    Args:
        vm: the VM.
        at_login: called when it lets somebody in; its boot may wait for what is done there.

    Raises:
        InfrastructureError: it does not shut down, or does not boot.
    """
    handle, document = vm.machine.handle, _definition(vm)
    connection = handle.connect()
    with contextlib.suppress(ConnectionLost):
        vm.guest.run("systemctl poweroff", check=False)
    wait.until(lambda: not _there(handle), f"{vm.name}: the end of its shutdown", _DOWN_DEADLINE)
    vm.machine.destroy()
    _start(vm, document, connection, at_login)


def _definition(vm: SystemVm) -> ET.Element:
    document = ET.fromstring(vm.machine.handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314 - libvirt's own
    _forget_incoming(document)
    return document


def _there(handle: libvirt.virDomain) -> bool:
    try:
        return bool(handle.isActive())
    except libvirt.libvirtError:  # a domain without a file of its own is forgotten at its end
        return False


def _start(
    vm: SystemVm,
    document: ET.Element,
    connection: libvirt.virConnect,
    at_login: Callable[[], None] = lambda: None,
) -> None:
    vm.guest.close()
    with asking(f"{vm.name}: libvirt cannot start it again"):
        handle = connection.createXML(
            ET.tostring(document, encoding="unicode"), libvirt.VIR_DOMAIN_START_AUTODESTROY
        )
    vm.machine = replace(vm.machine, handle=handle)
    boot.wait_for_guest_agent(vm.machine, _BOOT_DEADLINE)
    vm.guest.connect(_BOOT_DEADLINE)
    at_login()
    vm.guest.wait_for_unit("cloud-postinit.service", _BOOT_DEADLINE)


def _forget_incoming(document: ET.Element) -> None:
    """Take out of a domain what makes a restored machine wait for its state."""
    arguments = document.find(f"{_QEMU}commandline")
    words = [] if arguments is None else [word.get("value") for word in arguments]
    if arguments is None or "-incoming" not in words:
        return
    place = words.index("-incoming")
    for word in list(arguments)[place : place + 2]:
        arguments.remove(word)
