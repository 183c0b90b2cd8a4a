"""Messages for a declared network's machines: leases, names, metadata, passwords, health data."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface

from harness.network import messages
from harness.network.messages import MetadataRow
from harness.network.model import DeclaredMachine, Network
from harness.network.wire import Message, reaches

# Programs that a router may watch: service, process, unit and the file with its process id.
_WATCHED = {
    "dhcp": ("dnsmasq", "dnsmasq", "/var/run/dnsmasq/dnsmasq.pid"),
    "loadbalancing": ("haproxy", "haproxy", "/var/run/haproxy.pid"),
    "ssh": ("sshd", "ssh", "/var/run/sshd.pid"),
    "webserver": ("apache2", "apache2", "/var/run/apache2/apache2.pid"),
}
_CLOUD = uuid.uuid5(uuid.NAMESPACE_DNS, "cloud.internal")
# Minutes between two runs of the health checks.
_BASIC, _ADVANCED = 3, 10


def dhcp_entry(network: Network, machine: DeclaredMachine, *, remove: bool = False) -> messages.DhcpEntry:
    """Return the lease and the name of a machine."""
    return messages.DhcpEntry(
        host_name=machine.name,
        mac_address=machine.mac,
        ipv4_address=str(machine.address),
        ipv6_address=str(machine.address6) if machine.address6 else None,
        ipv6_duid=f"00:03:00:01:{machine.mac}",
        dns_addresses=str(network.gateway_of(machine.address)),
        default_gateway=str(network.way_out_of(machine.address)),
        default_entry=True,
        remove=remove,
    )


def metadata(network: Network, machine: DeclaredMachine, release: str) -> messages.VmData:
    """Return the metadata of a machine; declared values take the place of the usual ones, others come as parameters."""
    declared = dict(machine.metadata)
    identity = str(uuid.uuid5(_CLOUD, machine.mac))
    public = None if network.is_shared else network.source_nat
    usual: dict[str, str | None] = {
        "service-offering": "Small Instance",
        "availability-zone": "zone1",
        "local-ipv4": str(machine.address),
        "local-hostname": machine.name,
        "public-ipv4": str(public or machine.address),
        "public-hostname": str(public or machine.name),
        "instance-id": identity,
        "vm-id": identity,
        "public-keys": None,
        "cloud-identifier": f"CloudStack-{{{_CLOUD}}}",
    }
    later: dict[str, tuple[str, str | None]] = {
        "hypervisor-host-name": ("4.15.0", None),
        "cloud-domain": ("4.18.0", "ROOT"),
        "cloud-domain-id": ("4.18.0", str(uuid.uuid5(_CLOUD, "ROOT"))),
        "cloud-name": ("4.19.0", "CloudStack"),
    }
    usual |= {name: value for name, (since, value) in later.items() if reaches(release, (since,))}
    parameters = [(name, declared[name]) for name in declared if name not in usual]
    user_data = base64.b64encode(machine.user_data.encode()).decode() or None
    rows: list[MetadataRow] = [("userdata", "user-data", user_data)]
    for name, value in usual.items():
        rows.append(("metadata", name, _escaped(declared.get(name, value))))
        if name == "local-hostname" and reaches(release, ("4.18.0",)):
            rows += [("metadata", *parameter) for parameter in parameters]
    return messages.VmData(vm_ip_address=str(machine.address), vm_metadata=tuple(rows))


def _escaped(value: str | None) -> str | None:
    r"""Return a value with six characters such as ``\u00e9`` for each that is not ASCII, as the server writes names."""
    if value is None:
        return None
    return "".join(letter if letter.isascii() else f"\\u{ord(letter):04x}" for letter in value)


def password(machine: DeclaredMachine, new: str) -> messages.VmPassword:
    """Return a new password of a machine."""
    return messages.VmPassword(ip_address=str(machine.address), password=new)


def aliases(network: Network) -> Iterator[Message]:
    """Yield the router's addresses in further subnets of a shared network, then all its subnets."""
    if not network.aliases:
        return
    yield messages.IpAliases(
        aliases=tuple(
            messages.Alias(revoke=False, ip_address=str(alias.ip), netmask=str(alias.netmask), count=number)
            for number, alias in enumerate(network.aliases, 1)
        )
    )
    nic = network.inside[0]
    subnets = [
        (nic.address, nic.gateway or nic.address.ip),
        *((alias, alias.ip) for alias in network.aliases),
    ]
    yield messages.DhcpConfig(
        entries=tuple(
            messages.Subnet(
                router_ip_address=str(own.ip),
                gateway=str(gateway),
                netmask=str(own.netmask),
                first_ip_of_subnet=str(_first(own)),
            )
            for own, gateway in subnets
        )
    )


def _first(own: IPv4Interface) -> object:
    return own.network[1]


def monitor(
    network: Network,
    services: Sequence[str] | None,
    machines: Sequence[DeclaredMachine],
    version: tuple[str, str] | None,
) -> messages.MonitorService:
    """Return what a router watches of itself.

    Args:
        network: the declaration.
        services: names out of dhcp, loadbalancing, ssh and webserver; None for a mere refresh of the data.
        machines: those that the checks look for.
        version: of template and scripts as the router tells them; None where it was not asked.
    """
    config = "".join(
        f"[{name}]:processname={process}:servicename={service}:pidfile={pidfile}:,"
        for name, (process, service, pidfile) in _WATCHED.items()
        if services and name in services
    )
    return messages.MonitorService(
        config=config or None,
        disable_monitoring="false" if services else None,
        health_checks_enabled=True,
        health_checks_basic_run_interval=_BASIC,
        health_checks_advanced_run_interval=_ADVANCED,
        excluded_health_checks="",
        health_checks_config=_health_data(network, machines, version),
    )


def _health_data(
    network: Network, machines: Sequence[DeclaredMachine], version: tuple[str, str] | None
) -> dict[str, str]:
    reachable = {machine.address for machine in machines}
    balanced = [
        rule for rule in network.load_balancers if reachable & {member.address for member in rule.members}
    ]
    data = {
        "virtualMachines": "".join(
            f"vmName={machine.name},macAddress={machine.mac},ip={machine.address},dhcp=true,dns=true;"
            for machine in machines
        ),
        "gateways": "gatewaysIps=" + "".join(f"{nic.gateway} " for nic in network.publics if nic.gateway),
        "portForwarding": "".join(
            f"sourceIp={rule.public},sourcePortStart={rule.public_ports.first},"
            f"sourcePortEnd={rule.public_ports.last},destIp={rule.private},"
            f"destPortStart={rule.private_ports.first},destPortEnd={rule.private_ports.last};"
            for rule in network.forwards
            if rule.private in reachable
        ),
        "haproxyData": "".join(
            f"maxconn=4096,sourcePortStart={rule.port},sourcePortEnd={rule.port},sourceIp={rule.public},"
            f"destPortStart={rule.members[0].port},destPortEnd={rule.members[0].port},algorithm={rule.algorithm},"
            f"protocol=tcp,stickiness=None,keepAliveEnabled=false,"
            f"vmIps={' '.join(str(member.address) for member in rule.members)};"
            for rule in balanced
        ),
        "systemThresholds": "minDiskNeeded=100.0,maxCpuUsage=100.0,maxMemoryUsage=100.0;",
    }
    if version is not None:
        data["routerVersion"] = f"templateVersion={version[0]},scriptsVersion={version[1]}"
    return data
