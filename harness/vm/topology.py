"""Who sits where: the NICs, addresses and boot parameters of each system VM type, and the tenants behind it.

NIC order and cmdline parameters are CloudStack's (its KVM agent and management server, release 4.22); the addresses are
ours, from the documentation ranges.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address

from bundle.errors import UsageError
from harness.network import Network
from harness.network.flows import HTTP_PORT, served_ports
from harness.network.model import Machine, Nic, Outsider
from harness.vm.cables import Bridge, Cable, Forward, Link, Star, UserNet
from harness.vm.tenant.tenant import Host, TenantSpec, Uplink

CONTROL_NETWORK, CONTROL_HOST, CONTROL_MASK = "169.254.0.0/16", "169.254.0.1", "255.255.0.0"
PUBLIC_NETWORK, PUBLIC_GATEWAY, PUBLIC_MASK = "192.0.2.0/24", "192.0.2.1", "255.255.255.0"
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
        """How many of the NICs are there when the VM boots."""
        return sum(not nic.later for nic in self.nics)

    @property
    def segments(self) -> tuple[str, ...]:
        """The NICs, such as ``eth0``, that a cable leads from to a tenant guest."""
        hosts = [host.device for spec in self.tenants for host in spec.hosts]
        uplinks = [uplink.device for spec in self.tenants for uplink in spec.uplinks]
        return tuple(sorted({*hosts, *uplinks}))

    def tenant_nics(
        self, spec: TenantSpec, links: Mapping[str, Cable], host_port: Callable[[str, int], int]
    ) -> tuple[tuple[str, Star | Bridge | UserNet], ...]:
        """Return MAC and backend of each NIC of a tenant guest; ``links`` are the system VM's ends of the cables."""
        unused, peers = dict(links), dict(self.peer_cables)

        def star(device: str) -> Star | Bridge:
            # Hosts on one segment share one cable.
            cables = [unused.pop(device)] if device in unused else []
            cables += [peers.pop(device)] if device in peers else []
            bridge = next((cable for cable in cables if isinstance(cable, Bridge)), None)
            if bridge is not None:
                return bridge.other_end
            ends = [cable.other_end for cable in cables if isinstance(cable, Link)]
            return Star(tuple(ends), int(device.removeprefix("eth")))

        nics: list[tuple[str, Star | Bridge | UserNet]] = [
            (host.mac, star(host.device)) for host in spec.hosts
        ]
        forwards = tuple(Forward(host_port(a, p), a, p) for a, p in self.exposed)
        for uplink in spec.uplinks:
            near, far = uplink.macs
            user = UserNet(str(uplink.network), str(uplink.gateway), forwards)
            nics += [(near, star(uplink.device)), (far, user)]
        return tuple(nics)

    def cmdline(self, public_key: str) -> str:
        """Return the boot parameters, with the key that logs in."""
        words = ["template=domP", f"name={self.vm_name}"]
        for index, nic in enumerate(self.nics[: self.present_at_boot]):
            words += [f"eth{index}ip={nic.address}", f"eth{index}mask={nic.mask}"]
        key = base64.b64encode(public_key.encode()).decode()
        return " ".join([*words, f"authorized_key={key}", *self.parameters])

    def backend(
        self,
        nic: NicPlan,
        links: Mapping[str, Cable],
        host_port: Callable[[str, int], int],
        uplink: Callable[[str], Link],
    ) -> UserNet | Star | Cable:
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
                forward = Forward(host_port(nic.address, SSH_PORT), nic.address, SSH_PORT)
                return UserNet(CONTROL_NETWORK, CONTROL_HOST, (forward,))
            case "public":
                forwards = tuple(Forward(host_port(a, p), a, p) for a, p in self.exposed)
                return cable or UserNet(PUBLIC_NETWORK, PUBLIC_GATEWAY, forwards)
            case "management":
                return uplink(nic.role)
            case _:
                raise ValueError(f"unknown NIC role {nic.role!r}")


def _control(last: int) -> NicPlan:
    """Return a control NIC at 169.254.12.``last``; CloudStack derives its MAC from the address."""
    return NicPlan("control", f"0e:00:a9:fe:0c:{last:02x}", f"169.254.12.{last}", CONTROL_MASK)


def _public(last: int) -> NicPlan:
    return NicPlan("public", f"1e:00:c0:00:02:{last:02x}", f"192.0.2.{last}", PUBLIC_MASK)


def _guest(address: str) -> NicPlan:
    last = int(address.rsplit(".", 1)[1])
    return NicPlan("guest", f"02:00:0a:01:01:{last:02x}", address, "255.255.255.0")


def _management(last: int) -> NicPlan:
    return NicPlan("management", f"06:00:0a:00:00:{last:02x}", f"10.0.0.{last}", "255.255.255.0")


# Name of the tenant guest of every topology; one holds all hosts.
TENANTS = "tenants"
TENANT = TenantSpec(TENANTS, (Host("vm1", "02:00:0a:01:01:32", "eth0", "10.1.1.50"),))
_DNS = "dns1=192.0.2.53"
_GUEST_NETWORK = (
    "domain=cs1.cloud.internal",
    "cidrsize=24",
    "dhcprange=10.1.1.1",
    "disable_rp_filter=true",
    _DNS,
    "logrotatefrequency=*:00:00",
)


def router() -> Topology:
    """Return a router of an isolated network with one tenant."""
    return Topology(
        "router", "r-10-VM", (_guest("10.1.1.1"), _control(34), _public(10)),
        ("gateway=192.0.2.1", "publicMtu=1500", "privateMtu=1500", *_GUEST_NETWORK, "type=router"),
        tenants=(TENANT,),
    )  # fmt: skip


def dhcpsrvr() -> Topology:
    """Return the DHCP, DNS and user-data server of a shared network with one tenant."""
    return Topology(
        "dhcpsrvr", "r-30-VM", (_guest("10.1.1.5"), _control(35)),
        ("gateway=10.1.1.1", "privateMtu=null", *_GUEST_NETWORK, "type=dhcpsrvr"),
        tenants=(TENANT,),
    )  # fmt: skip


def ilbvm() -> Topology:
    """Return an internal load balancer with one tenant behind it."""
    return Topology(
        "ilbvm", "b-40-VM", (_guest("10.1.1.100"), _control(36)),
        ("gateway=10.1.1.1", "dns1=10.1.1.1", "domain=cs2.cloud.internal", "type=ilbvm"),
        tenants=(TENANT,),
    )  # fmt: skip


def elbvm() -> Topology:
    """Return an elastic load balancer."""
    return Topology(
        "elbvm", "l-50-VM", (_guest("10.1.1.9"), _control(37)),
        ("gateway=10.1.1.1", "domain=cs3.cloud.internal", _DNS, "type=elbvm"),
    )  # fmt: skip


def vpcrouter() -> Topology:
    """Return the router of a VPC as it boots: its control NIC alone."""
    return Topology(
        "vpcrouter", "r-20-VM", (_control(38),),
        ("vpccidr=10.20.0.0/16", "domain=cs2.cloud.internal", "publicMtu=1500", _DNS, "has_public_network=true",
         "type=vpcrouter", "disable_rp_filter=true", "logrotatefrequency=*:00:00"),
    )  # fmt: skip


_AGENT = ("host=10.0.0.5", "port=8250", "zone=1", "pod=1", "mgmtcidr=10.0.0.0/24", "localgw=10.0.0.1")


def secstorage() -> Topology:
    """Return a secondary-storage VM."""
    return Topology(
        "secstorage", "s-1-VM", (_control(39), _management(30), _public(30)),
        (*_AGENT, "guid=s-1-VM", "workers=5",
         "resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource", "instance=SecStorage",
         "sslcopy=false", "role=templateProcessor", "mtu=1500", "gateway=192.0.2.1",
         "public.network.device=eth2", "private.network.device=eth1", "internaldns1=10.0.0.2", _DNS,
         "nfsVersion=null", "keystore_password=UGFzc3dvcmQxMjM0NTY3OA==", "useHttpsToUpload=true",
         "type=secstorage"),
    )  # fmt: skip


def consoleproxy() -> Topology:
    """Return a console proxy."""
    return Topology(
        "consoleproxy", "v-2-VM", (_control(40), _management(32), _public(31)),
        (*_AGENT, "guid=Proxy.2", "proxy_vm=2", "disable_rp_filter=true", "gateway=192.0.2.1",
         "internaldns1=10.0.0.2", _DNS, "vncport=8080", "keystore_password=UGFzc3dvcmQxMjM0NTY3OA==",
         "type=consoleproxy"),
        exposed=(("192.0.2.31", 8080), ("192.0.2.31", 80)),
    )  # fmt: skip


_TYPES: dict[str, Callable[[], Topology]] = {
    make.__name__: make for make in (router, dhcpsrvr, ilbvm, elbvm, vpcrouter, secstorage, consoleproxy)
}


def of_type(vm_type: str) -> Topology:
    """Return the default topology of a VM type.

    Raises:
        UsageError: there is no such type.
    """
    try:
        return _TYPES[vm_type]()
    except KeyError:
        raise UsageError(f"unknown VM type {vm_type!r} (there are {', '.join(_TYPES)})") from None


def around(network: Network) -> Topology:
    """Return the topology of a declared network: its NICs and hosts, its public rules reachable from loopback."""
    exposed = [
        (forward.public, port)
        for forward in network.forwards
        if forward.protocol == "tcp"
        for port in range(forward.public_ports.first, forward.public_ports.last + 1)
    ]
    exposed += [(balancer.public, balancer.port) for balancer in network.load_balancers]
    exposed += [
        (nat.public, port) for nat in network.static_nats for port in served_ports(network, nat.private)
    ]
    hosts = [
        *map(partial(_machine_host, network), network.machines),
        *map(partial(_outsider_host, network), network.outsiders),
    ]
    uplinks = _uplinks(network)
    return replace(
        of_type(network.type),
        nics=tuple(
            NicPlan(
                nic.role, nic.mac, str(nic.address.ip), str(nic.address.netmask), later=_later(network, nic)
            )
            for nic in network.nics
        ),
        tenants=(TenantSpec(TENANTS, tuple(hosts), uplinks),) if hosts or uplinks else (),
        exposed=tuple((str(address), port) for address, port in exposed),
    )


def pair_around(network: Network) -> tuple[Topology, Topology]:
    """Return the topologies of a redundant pair, the tenants with the first one; the cables of the second are missing.

    Raises:
        UsageError: the network declares no pair.
    """
    second = around(network.second_router())
    first = replace(around(network), parameters=_with_role(network, "PRIMARY"))
    name = f"{second.vm_name.removesuffix('10-VM')}11-VM"
    return first, replace(
        second, vm_name=name, parameters=_with_role(network, "BACKUP"), tenants=(), exposed=()
    )


def _with_role(network: Network, state: str) -> tuple[str, ...]:
    """Return the cmdline parameters of a router of a pair; ``state`` is what it is meant to be at first."""
    pair = network.redundant
    assert pair is not None  # noqa: S101 - second_router() has refused other networks
    inside = pair.guest.address.network
    return (
        "redundant_router=1", f"advert_int={pair.interval}", f"redundant_state={state}", f"guestgw={pair.gateway}",
        f"guestbrd={inside.broadcast_address}", f"guestcidrsize={inside.prefixlen}",
        *of_type(network.type).parameters,
    )  # fmt: skip


def _echo_ports(network: Network, address: IPv4Address) -> tuple[int, ...]:
    return tuple(port for port in served_ports(network, address) if port != HTTP_PORT)


def _later(network: Network, nic: Nic) -> bool:
    """Say whether a NIC is plugged in after the boot: all of a VPC router are but the control NIC."""
    return network.type == "vpcrouter" and nic.role != "control"


def _machine_host(network: Network, machine: Machine) -> Host:
    nic = network.inside_of(machine.address)
    # Who gets no address by DHCP has it from the start.
    mask = "" if network.serves_machines else f"/{nic.address.network.prefixlen}"
    return Host(
        machine.name, machine.mac, nic.device, f"{machine.address}{mask}",
        ports=_echo_ports(network, machine.address), extra=_behind(network, machine.address),
    )  # fmt: skip


def _outsider_host(network: Network, outsider: Outsider) -> Host:
    return Host(
        outsider.name, outsider.mac, outsider.device, str(outsider.address),
        gateway=str(outsider.gateway or ""), ports=_echo_ports(network, outsider.address.ip),
        extra=_behind(network, outsider.address.ip),
    )  # fmt: skip


def _uplinks(network: Network) -> tuple[Uplink, ...]:
    """Return what puts loopback on the public network."""
    if network.public is None:
        return ()
    addresses = network.public.address.network
    macs = ("1e:00:00:00:ff:01", "1e:00:00:00:ff:02")
    return (Uplink("uplink", network.public.device, addresses, addresses[1], macs),)


def _behind(network: Network, address: IPv4Address) -> tuple[str, ...]:
    """Return the addresses that a host answers at because a static route leads to it."""
    return tuple(f"{route.target}/32" for route in network.routes if route.gateway == address)
