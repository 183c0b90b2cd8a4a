"""Plugs NICs into running machines, as CloudStack's agent does for VPC routers (``attachDevice`` on the live domain).

Each NIC goes to the PCI slot that it has on the command line of a restored machine, so a snapshot taken afterwards can
be restored. libvirt does not know of these NICs, as it does not of the others (see :mod:`harness.machine.domain`).
"""

from __future__ import annotations

from bundle.errors import InfrastructureError
from harness.host import wait
from harness.machine.domain import Nic
from harness.machine.machine import Machine
from harness.vm.backends import NetworkBackend
from harness.vm.system import SystemVm
from harness.vm.tenant.tenant import Tenant, TenantHost, start_host
from harness.vm.wiring import FIRST_NIC_SLOT

# Under emulation the kernel of a busy guest takes a second or two to find a new PCI device.
DEADLINE = 30.0


def plug(vm: SystemVm, device: str) -> None:
    """Plug in the next NIC that the topology says comes after the boot; it must become the ``device``.

    Raises:
        InfrastructureError: it is another one's turn, QEMU refuses it, or the guest does not find it.
    """
    number = len(vm.topology.nics) - len(vm.unplugged)
    if not vm.unplugged or device != f"eth{number}":
        due = f"eth{number}" if vm.unplugged else "none"
        raise InfrastructureError(f"{vm.name}: the next NIC to plug in is {due}, not {device}")
    nic, *others = vm.unplugged
    _attach(vm.backend, vm.machine, nic, number)
    _await(vm, nic.mac, device)
    vm.unplugged = tuple(others)


def plug_tier(vm: SystemVm, mac: str, host: TenantHost) -> Tenant:
    """Plug a NIC for one more tier into a running VPC router, with a host at its other end.

    Args:
        vm: the router; its tenant guest has a host already.
        mac: of the router's NIC.
        host: who is on the new tier; its ``device`` is the one that the router's NIC gets, the next ``ethN``.

    Raises:
        InfrastructureError: QEMU refuses, or a guest does not find its NIC.
    """
    (machine,) = vm.tenant_machines.values()
    number, far_number = _count(vm.machine), _count(machine)
    if host.device != f"eth{number}":
        raise InfrastructureError(f"{vm.name}: the next NIC is eth{number}, not {host.device}")
    near = vm.backend.cable(vm.machine.name, host.device, vm.ports.take)
    vm.backend.lay([near])
    far = near.far_side((), number)
    _attach(vm.backend, machine, Nic(host.mac, far, FIRST_NIC_SLOT + far_number), far_number)
    _attach(vm.backend, vm.machine, Nic(mac, near, FIRST_NIC_SLOT + number), number)
    _await(vm, mac, host.device)
    control = next(iter(vm.tenants.values())).control
    vm.tenants[host.name] = start_host(control, host, DEADLINE)
    return vm.tenants[host.name]


def _attach(backend: NetworkBackend, machine: Machine, nic: Nic, number: int) -> None:
    """Give QEMU the NIC's arguments one by one: netdevs in the words of the command line, then the device."""
    backend.plug(machine, [nic])
    netdevs = nic.backend.arguments(f"net{number}")[1::2]
    for netdev in netdevs:
        said = machine.monitor("human-monitor-command", **{"command-line": f"netdev_add {netdev}"})
        if said:
            raise InfrastructureError(f"{machine.name}: QEMU refuses the NIC {nic.mac}: {said.strip()}")
    machine.monitor(
        "device_add", driver="virtio-net-pci", id=f"nic{number}", netdev=f"net{number}", mac=nic.mac,
        bus="pci.0", addr=f"{nic.slot:#x}", romfile="",
    )  # fmt: skip


def _count(machine: Machine) -> int:
    """Return how many NICs a machine has."""
    devices = machine.monitor("qom-list", path="/machine/peripheral")
    return sum(row["name"].startswith("nic") and row["name"][3:].isdigit() for row in devices)


def _await(vm: SystemVm, mac: str, device: str) -> None:
    """Wait until the guest has the NIC, under the name that the databags are going to call it."""
    command = f"cat /sys/class/net/{device}/address"
    seen = ""

    def found() -> bool:
        nonlocal seen
        seen = vm.guest.run(command, check=False).stdout.strip()
        return seen == mac

    try:
        wait.until(found, f"{vm.name}: {device} with MAC address {mac}", DEADLINE, tick=0.05)
    except wait.DeadlineExceeded as error:
        raise InfrastructureError(f"{error} (it has {seen or 'no such device'})") from None
