"""A topology: a system VM's NICs, addresses and boot parameters, and the tenants behind it, as values."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bundle.catalogue import Release
from harness.machine.domain import NicBackend
from harness.vm.cables import Cable, HostForward, Star, UserNet
from harness.vm.loopback import UdpCable
from harness.vm.tenant.tenant import TenantSpec

CONTROL_NETWORK, CONTROL_HOST = "169.254.0.0/16", "169.254.0.1"
PUBLIC_NETWORK, PUBLIC_GATEWAY = "192.0.2.0/24", "192.0.2.1"
MANAGEMENT_NETWORK, MANAGEMENT_GATEWAY = "10.0.0.0/24", "10.0.0.1"
SSH_PORT = 3922


@dataclass(frozen=True)
class NicPlan:
    """One NIC: which network it is on, with which address.

    Attributes:
        role: guest, control, public or management; tier or private for those of a VPC.
        mac: its address on the wire.
        address: its first IPv4 address.
        mask: and the netmask.
        later: it is plugged in after the boot, so the cmdline does not tell of it.
    """

    role: str
    mac: str
    address: str
    mask: str
    later: bool = False


@dataclass(frozen=True)
class Topology:
    """A system VM and what is around it.

    Attributes:
        vm_type: as in ``type=`` of the cmdline.
        vm_name: CloudStack's instance name.
        nics: in the guest's order; those that are plugged in after the boot come last.
        tenants: guests whose hosts are on the VM's networks.
        exposed: (address, port) pairs on public NICs that loopback can reach.
        parameters: the type's own cmdline parameters.
    """

    vm_type: str
    vm_name: str
    nics: tuple[NicPlan, ...]
    parameters: tuple[str, ...]
    tenants: tuple[TenantSpec, ...] = ()
    exposed: tuple[tuple[str, int], ...] = ()
    memory_mib: int = 512
    # The other router of a redundant pair is on the same segments. The tenant guest, which belongs to the first one,
    # has the far ends of its cables, too.
    own_cables: tuple[tuple[str, Cable], ...] = ()
    peer_cables: tuple[tuple[str, Cable], ...] = ()

    @property
    def control(self) -> NicPlan:
        """The NIC that SSH listens on."""
        return next(nic for nic in self.nics if nic.role == "control")

    @property
    def present_at_boot(self) -> int:
        """The number of NICs that are there when the VM boots."""
        return sum(not nic.later for nic in self.nics)

    @property
    def segments(self) -> tuple[str, ...]:
        """The NICs, such as ``eth0``, that a cable leads from to a tenant guest."""
        hosts = [host.device for spec in self.tenants for host in spec.hosts]
        uplinks = [uplink.device for spec in self.tenants for uplink in spec.uplinks]
        transits = [
            device for spec in self.tenants for transit in spec.transits for device in transit.devices
        ]
        return tuple(sorted({*hosts, *uplinks, *transits}))

    def tenant_nics(
        self, spec: TenantSpec, links: Mapping[str, Cable], host_port: Callable[[str, int], int]
    ) -> tuple[tuple[str, NicBackend], ...]:
        """Return MAC and backend of each NIC of a tenant guest; ``links`` are the system VM's ends of the cables."""
        unused, peers = dict(links), dict(self.peer_cables)

        def side(device: str) -> NicBackend:
            # Hosts on one segment share one cable.
            hub_id = int(device.removeprefix("eth"))
            cables = [held.pop(device) for held in (unused, peers) if device in held]
            return cables[0].far_side(cables[1:], hub_id) if cables else Star((), hub_id)

        nics = [(host.mac, side(host.device)) for host in spec.hosts]
        forwards = tuple(HostForward(host_port(a, p), a, p) for a, p in self.exposed)
        for uplink in spec.uplinks:
            near, far = uplink.macs
            user = UserNet(str(uplink.network), str(uplink.gateway), forwards)
            nics += [(near, side(uplink.device)), (far, user)]
        for transit in spec.transits:
            nics += [(mac, side(device)) for mac, device in zip(transit.macs, transit.devices, strict=True)]
        return tuple(nics)

    def cmdline(self, public_key: str, release: Release) -> str:
        """Return the boot parameters that a server of a release sends, with the key that logs in."""
        words = ["template=domP", f"name={self.vm_name}"]
        for index, nic in enumerate(self.nics[: self.present_at_boot]):
            words += [f"eth{index}ip={nic.address}", f"eth{index}mask={nic.mask}"]
        key = base64.b64encode(public_key.encode()).decode()
        sent = [word for word in self.parameters if word.partition("=")[0] not in release.unsent]
        return " ".join([*words, f"authorized_key={key}", *sent])

    def backend(
        self,
        nic: NicPlan,
        links: Mapping[str, Cable],
        host_port: Callable[[str, int], int],
        uplink: Callable[[str], UdpCable],
    ) -> NicBackend:
        """Return the host's side of a NIC.

        Args:
            nic: one of ``nics``.
            links: this machine's ends of the cables to its tenants, by NIC.
            host_port: gives the loopback port that leads to an (address, port).
            uplink: gives this machine's end of the cable to a network that somebody else plays, by the NIC's role.
        """
        number = self.nics.index(nic)
        cable = {**links, **dict(self.own_cables)}.get(f"eth{number}")
        match nic.role:
            case "guest" | "tier" | "private":
                return cable or Star((), number)
            case "control":
                forward = HostForward(host_port(nic.address, SSH_PORT), nic.address, SSH_PORT)
                return UserNet(CONTROL_NETWORK, CONTROL_HOST, (forward,))
            case "public":
                forwards = tuple(HostForward(host_port(a, p), a, p) for a, p in self.exposed)
                return cable or UserNet(PUBLIC_NETWORK, PUBLIC_GATEWAY, forwards)
            case "management":
                return uplink(nic.role)
            case _:
                raise ValueError(f"unknown NIC role {nic.role!r}")
