"""The wiring of a system VM: which cables, loopback ports and NICs join its machine, its tenants and the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.host.ports import PortReservations
from harness.machine.domain import Nic, NicBackend
from harness.vm.backends import NetworkBackend
from harness.vm.cables import Cable
from harness.vm.loopback import UdpCable
from harness.vm.topology import Topology

# NICs come after libvirt's own devices on the PCI bus; the kernel names them in the order of their slots.
FIRST_NIC_SLOT = 0x10


@dataclass(frozen=True)
class Wiring:
    """The joints of one system VM's machines: cables, ports and NICs.

    Attributes:
        ports: the loopback ports that it takes; whoever ends the machines releases them.
        endpoints: loopback port of each exposed (address, port).
        uplinks: the VM's ends of the cables to networks that somebody else plays, by the NIC's role.
        cables: what the network backend has to lay.
        nics: the system VM's NICs, in the guest's order.
        tenants: the NICs of each tenant guest, by its name.
    """

    ports: PortReservations
    endpoints: dict[tuple[str, int], int]
    uplinks: dict[str, UdpCable]
    cables: tuple[Cable, ...]
    nics: tuple[Nic, ...]
    tenants: dict[str, tuple[Nic, ...]]


def wire(topology: Topology, backend: NetworkBackend, owner: str) -> Wiring:
    """Return the wiring of a topology; its ports are taken, nothing is laid yet.

    Args:
        topology: who sits where.
        backend: what segments are made of.
        owner: whom they belong to.
    """
    ports = PortReservations()
    endpoints: dict[tuple[str, int], int] = {}
    uplinks: dict[str, UdpCable] = {}

    def host_port(address: str, port: int) -> int:
        return endpoints.setdefault((address, port), ports.take())

    def uplink(role: str) -> UdpCable:
        return uplinks.setdefault(role, UdpCable(ports.take(), ports.take()))

    try:
        links = {device: backend.cable(owner, device, ports.take) for device in topology.segments}
        nics = _nics((plan.mac, topology.backend(plan, links, host_port, uplink)) for plan in topology.nics)
        tenants = {
            spec.name: _nics(topology.tenant_nics(spec, links, host_port)) for spec in topology.tenants
        }
    except BaseException:
        ports.release()
        raise
    cables = (*links.values(), *dict(topology.own_cables).values())
    return Wiring(ports, endpoints, uplinks, cables, nics, tenants)


def _nics(ends: Iterable[tuple[str, NicBackend]]) -> tuple[Nic, ...]:
    """Return NICs from their MAC addresses and host sides, each in the next PCI slot."""
    return tuple(Nic(mac, end, FIRST_NIC_SLOT + index) for index, (mac, end) in enumerate(ends))
