"""Machines that are started again from their disk: shut down in an orderly way before, or cut off.

A reset within a machine that was restored ends QEMU 7.2 by a segmentation fault under emulation. So no such machine is
reset: its domain ends, and another one of the same definition begins.
"""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import libvirt

from bundle.errors import InfrastructureError
from harness.guest.connection import ConnectionLost, GuestError, GuestStopped
from harness.guest.guest import SshGuest
from harness.host import wait
from harness.host.hypervisor import asking
from harness.machine.machine import Machine
from harness.machine.moment import disk_now
from harness.vm import backends, boot

DOWN_DEADLINE = 120.0
BOOT_DEADLINE = 300.0
# What libvirt calls a domain that has ended and is not forgotten yet, which it hides from whoever looks for it; and for
# how many seconds that is waited for.
_BEING_REMOVED = "is already being removed"
_FORGOTTEN_DEADLINE = 15.0
_LAST_STEP = "cloud-postinit.service"
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


class RebootFailed(InfrastructureError):
    """A guest that does not come through a reboot, although libvirt and QEMU have done their part."""


def reboot(
    machine: Machine,
    guest: SshGuest,
    *,
    owned: bool = True,
    cmdline: str = "",
    at_login: Callable[[], None] = lambda: None,
) -> Machine:
    """Shut a guest down in an orderly way, and start it from its disk: what a host does to reboot a VM.

    Args:
        machine: its machine; the domain ends.
        guest: its connection, which leads to the new machine afterwards.
        owned: as in :func:`harness.machine.machine.start`.
        cmdline: boot parameters that it is handed, as a system VM is by a server that starts it; none by a mere reboot.
        at_login: called when the guest lets somebody in again; its boot may wait for what is done there.

    Returns:
        The machine that runs afterwards, of the same name in the same folder.

    Raises:
        RebootFailed: the guest does not shut down, and is left running; or it does not come up again.
        InfrastructureError: libvirt or QEMU does not do its part; the guest is off then.
    """
    document, connection = _definition(machine), machine.handle.connect()
    try:
        with contextlib.suppress(ConnectionLost):
            guest.run("systemctl poweroff", check=False)
        wait.until(lambda: not machine.alive(), f"{guest.name}: the end of its shutdown", DOWN_DEADLINE)
    except (GuestError, wait.DeadlineExceeded) as error:
        raise _judged(machine, error) from error
    machine.destroy()
    return _start(machine, guest, document, connection, owned=owned, cmdline=cmdline, at_login=at_login)


def cut_off(machine: Machine, guest: SshGuest) -> Machine:
    """Cut the power of a machine at once, and start it from the disk that is left.

    What the guest had not written out is lost, for its disk has no cache on the host. Result and errors are those of
    :func:`reboot`.
    """
    document, connection = _definition(machine), machine.handle.connect()
    machine.crash()
    return _start(machine, guest, document, connection)


def _start(
    machine: Machine, guest: SshGuest, document: ET.Element, connection: libvirt.virConnect, *,
    owned: bool = True, cmdline: str = "", at_login: Callable[[], None] = lambda: None,
) -> Machine:  # fmt: skip
    guest.close()
    flags = libvirt.VIR_DOMAIN_START_AUTODESTROY if owned else 0
    text = ET.tostring(document, encoding="unicode")
    with asking(f"{guest.name}: libvirt cannot start it again"):
        handle = wait.until(
            lambda: _created(connection, text, flags),
            f"{guest.name}: libvirt to forget it",
            _FORGOTTEN_DEADLINE,
        )
    started = replace(machine, handle=handle, ram=None)
    started = replace(started, printed_before=started.printed())
    if guest.stopped_by is not None:
        guest.stopped_by, guest.locked_up = started.halted, started.locked_up
        guest.disk = partial(disk_now, started)
    try:
        backends.rejoin(started)
        boot.wait_for_guest_agent(started, BOOT_DEADLINE, started.stretch())
        if cmdline:
            boot.write_through_guest_agent(started, boot.CMDLINE_FILE, cmdline.encode())
        guest.connect(BOOT_DEADLINE)
        at_login()
        guest.wait_for_unit(_LAST_STEP, BOOT_DEADLINE)
    except InfrastructureError as error:
        raise _judged(started, error) from error
    return started


def _created(connection: libvirt.virConnect, text: str, flags: int) -> libvirt.virDomain | None:
    """Return a new domain; None while libvirt still removes the one of the same name that has just ended."""
    try:
        return connection.createXML(text, flags)
    except libvirt.libvirtError as error:
        if _BEING_REMOVED in str(error):
            return None
        raise


def _judged(machine: Machine, error: InfrastructureError) -> InfrastructureError:
    """Return the error that says whether the guest is at fault, or whoever has to run it."""
    if reason := machine.host_fault():
        return InfrastructureError(f"{error}: {reason}", hint=f"console log: {machine.console_log}")
    of_guest = isinstance(error, (GuestError, wait.DeadlineExceeded)) and not isinstance(error, GuestStopped)
    if of_guest or not machine.alive():
        return RebootFailed(f"{error}{boot.last_lines(machine.console_log)}")
    return error


def _definition(machine: Machine) -> ET.Element:
    """Return what libvirt is to start again: the domain as it is, without its wait for a device state."""
    with asking(f"{machine.name}: libvirt does not say what it is"):
        text = machine.handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    document = ET.fromstring(text)  # noqa: S314 - libvirt's own
    arguments = document.find(f"{_QEMU}commandline")
    words = [] if arguments is None else [word.get("value") for word in arguments]
    if arguments is not None and "-incoming" in words:
        place = words.index("-incoming")
        for word in list(arguments)[place : place + 2]:
            arguments.remove(word)
    return document
