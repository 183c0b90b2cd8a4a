"""DHCP and DNS by dnsmasq: entries are re-read on a signal, only another configuration takes a restart; leases stay.

Proof: dnsmasq takes DHCP requests, and questions on the address of every guest network.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Dict, List

from .. import sockets, system
from ..state import State
from ..topology import GuestNetwork, Topology

KINDS = frozenset({"dhcpentry", "guestnetwork", "ipaliases", "dhcpconfig"})
CONFIG = Path("/etc/dnsmasq.d/cloud.conf")
DHCP_HOSTS = Path("/etc/dhcphosts.txt")
DHCP_OPTIONS = Path("/etc/dhcpopts.txt")
NAMES = Path("/etc/dnsmasq-hosts.txt")
LEASES = Path("/var/lib/misc/dnsmasq.leases")
UNIT = "dnsmasq.service"
_CANDIDATE = Path("/run/cloud/dnsmasq.candidate")


def render_config(topology: Topology) -> str:
    """Return the configuration: listening addresses, ranges and the options of each guest network."""
    listen = ["127.0.0.1"] + [guest.server for guest in topology.guests]
    # dnsmasq gives IPv6 addresses only where it listens on one.
    listen += [guest.address6 for guest in topology.guests if topology.gives_addresses6(guest)]
    lines = [
        "# Made by the rules of the virtual router.",
        # Addresses of tiers and of a redundant pair come and go while dnsmasq runs.
        "bind-dynamic",
        "listen-address=" + ",".join(listen),
        "no-hosts",
        "no-resolv",
        "domain-needed",
        "bogus-priv",
        "expand-hosts",
        # A name with an address in every guest network (data-server) has the one of the network that asks.
        "localise-queries",
        "dhcp-authoritative",
        f"dhcp-hostsfile={DHCP_HOSTS}",
        f"dhcp-optsfile={DHCP_OPTIONS}",
        f"addn-hosts={NAMES}",
        f"dhcp-leasefile={LEASES}",
        "dhcp-lease-max=65536",
    ]
    lines += ["server=" + server for server in _upstream(topology)]
    for place, guest in enumerate(topology.guests):
        number = sum(other.device == guest.device for other in topology.guests[:place])
        lines += _network_lines(guest, topology, f"interface-{guest.device}-{number}")
    return "\n".join(lines) + "\n"


def _upstream(topology: Topology) -> List[str]:
    """Return the resolvers that dnsmasq asks itself; its own addresses would make it ask itself for ever."""
    own = {address for guest in topology.guests for address in (guest.server, guest.address, guest.gateway)}
    config = topology.config
    found = {server for guest in topology.guests for server in guest.dns}
    found |= {config[key] for key in ("dns1", "dns2") if config.get(key)}
    return sorted(found - own)


def _resolvers(guest: GuestNetwork, topology: Topology) -> List[str]:
    """Return the resolvers that guests are told of."""
    if topology.own_dns_only:
        return [guest.server]
    others = [server for server in guest.dns if ":" not in server]
    if topology.config.get("useextdns") == "true":
        return [server for server in others if server != guest.server] or [guest.server]
    return list(dict.fromkeys([guest.server, *others]))


def _network_lines(guest: GuestNetwork, topology: Topology, tag: str) -> List[str]:
    config = topology.config
    option = f"dhcp-option=tag:{tag},"
    netmask = ipaddress.IPv4Network(guest.cidr).netmask
    start = config.get("dhcprange") if guest.device == "eth0" and not guest.alias else None
    lines = [f"dhcp-range=set:{tag},{start or guest.gateway},static,{netmask}"]
    if guest.domain:
        lines.append(f"domain={guest.domain},{guest.cidr}")
        if guest.cidr6:
            lines.append(f"domain={guest.domain},{guest.cidr6}")
        lines.append(f"local=/{guest.domain}/")
        lines.append(f"{option}15,{guest.domain}")
    search = config.get("dnssearchorder")
    if search:
        lines.append(f"{option}119,{search}")
    lines.append("{}6,{}".format(option, ",".join(_resolvers(guest, topology))))
    lines.append(f"{option}3,{guest.gateway}")
    lines.append(f"{option}1,{netmask}")
    if guest.mtu and not guest.alias:
        lines.append(f"dhcp-option={guest.device},26,{guest.mtu}")
    return lines + (_network6_lines(guest, f"{tag}-6") if topology.gives_addresses6(guest) else [])


def _network6_lines(guest: GuestNetwork, tag: str) -> List[str]:
    """Return what a network of IPv6 is told; the way out is told by its router's own advertisements."""
    network = ipaddress.IPv6Network(guest.cidr6)
    lines = [f"dhcp-range=set:{tag},{network.network_address},static,{network.prefixlen}"]
    servers = ",".join(f"[{server}]" for server in guest.dns6)
    if servers:
        lines.append(f"dhcp-option=tag:{tag},option6:dns-server,{servers}")
    if guest.domain:
        lines.append(f"dhcp-option=tag:{tag},option6:domain-search,{guest.domain}")
    return lines


def _entries(state: State) -> List[Dict[str, Any]]:
    """Return the hosts that have an IPv4 address, in its order."""
    rows = [row for row in state.bag("dhcpentry").values() if "ipv4_address" in row]
    return sorted(rows, key=lambda row: int(ipaddress.IPv4Address(row["ipv4_address"])))


def _tag(entry: Dict[str, Any]) -> str:
    return entry["ipv4_address"].replace(".", "_")


def _options(entry: Dict[str, Any], topology: Topology) -> List[str]:
    """Return what one host gets other than its network: nothing for most hosts."""
    tag = _tag(entry)
    if not entry.get("default_entry", True):
        # Its default network is another one; two default gateways would fight.
        return [f"tag:{tag},{option}" for option in (3, 6, 15)]
    guest = topology.guest_of(entry["ipv4_address"])
    gateway = entry.get("default_gateway")
    if gateway and guest and gateway != guest.gateway:
        return [f"tag:{tag},3,{gateway}"]
    return []


def render_hosts(state: State) -> str:
    """Return the reservations, one line a host."""
    lines = []
    for entry in _entries(state):
        words = [entry["mac_address"]]
        if _options(entry, state.topology):
            words.append("set:" + _tag(entry))
        words.append(entry["ipv4_address"])
        if entry.get("host_name"):
            words.append(entry["host_name"])
        lease = entry.get("lease_time", -1)
        words.append("infinite" if lease in (-1, 0) else str(lease))
        lines.append(",".join(words) + "\n")
    return "".join(lines + _hosts6(state))


def _hosts6(state: State) -> List[str]:
    """Return the reservations of IPv6 addresses: a machine asks by its identity, not by its MAC address."""
    lines = []
    for entry in _named6(state):
        guest = state.topology.guest_of(entry["ipv6_address"])
        if guest and state.topology.gives_addresses6(guest) and entry.get("ipv6_duid"):
            words = ["id:" + entry["ipv6_duid"], "[{}]".format(entry["ipv6_address"])]
            words += [entry["host_name"]] if entry.get("host_name") else []
            lines.append(",".join([*words, "infinite"]) + "\n")
    return lines


def _named6(state: State) -> List[Dict[str, Any]]:
    """Return the hosts that have an IPv6 address, in its order."""
    rows = [row for row in state.bag("dhcpentry").values() if row.get("ipv6_address")]
    return sorted(rows, key=lambda row: int(ipaddress.IPv6Address(row["ipv6_address"])))


def render_options(state: State) -> str:
    """Return the options of the hosts that differ from their network."""
    return "".join(line + "\n" for entry in _entries(state) for line in _options(entry, state.topology))


def render_names(state: State) -> str:
    """Return the names that DNS answers, in the format of /etc/hosts."""
    lines = [f"{guest.server} data-server\n" for guest in state.topology.guests]
    lines += [
        "{} {}\n".format(row["ipv4_address"], row["host_name"])
        for row in _entries(state)
        if row.get("host_name")
    ]
    lines += [
        "{} {}\n".format(row["ipv6_address"], row["host_name"])
        for row in _named6(state)
        if row.get("host_name")
    ]
    return "".join(lines)


def stale_leases(leases: str, hosts: str) -> List[str]:
    """Return the lines of the lease file that no reservation stands behind.

    dnsmasq refuses to give a reserved address to its new owner while the former one holds an infinite lease of it, and
    it answers the name of whoever holds a lease, also of a machine that is gone.
    """
    reserved = set()
    for line in filter(None, hosts.split("\n")):
        words = [word for word in line.split(",") if not word.startswith("set:")]
        # A machine asks for its IPv6 address by its identity, which is the last word of such a lease.
        reserved.add((words[0][3:] if words[0].startswith("id:") else words[0], words[1].strip("[]")))
    found = []
    for line in leases.split("\n"):
        words = line.split()
        if len(words) < 4 or words[0] == "duid":
            continue
        owner = words[-1] if ":" in words[2] else words[1]
        if (owner.lower(), words[2]) not in reserved:
            found.append(line)
    return found


def check(state: State) -> None:
    """Let dnsmasq read a configuration that differs from the present one."""
    if not state.topology.serves_guests:
        return
    text = render_config(state.topology)
    if system.read_text(CONFIG) == text:
        return
    system.write_text(_CANDIDATE, text)
    try:
        system.run(["dnsmasq", "--test", f"--conf-file={_CANDIDATE}"])
    finally:
        _CANDIDATE.unlink()


def apply(state: State) -> None:
    """Write the files; signal, restart or start dnsmasq, whichever is the least that is needed."""
    if not state.topology.serves_guests:
        return
    restart = system.write_text(CONFIG, render_config(state.topology))
    hosts = render_hosts(state)
    reread = system.write_text(DHCP_HOSTS, hosts)
    reread = system.write_text(DHCP_OPTIONS, render_options(state)) or reread
    reread = system.write_text(NAMES, render_names(state)) or reread
    if state.booting or not state.primary:
        return
    stale = stale_leases(system.read_text(LEASES) or "", hosts)
    if stale:
        _drop_leases(stale)
    elif restart or not system.unit_active(UNIT):
        system.unit("restart", UNIT)
    elif reread:
        system.log("dnsmasq reads its hosts again")
        system.run(["systemctl", "kill", "--kill-who=main", "--signal=HUP", UNIT])


def prove(state: State) -> None:
    """Wait until dnsmasq listens; on a standby it does not run."""
    if state.topology.serves_guests and state.primary:
        asked = [(guest.server, 53) for guest in state.topology.guests]
        if asked:
            sockets.await_listeners("dnsmasq", [("0.0.0.0", 67), *asked], sockets.UDP)


def _drop_leases(stale: List[str]) -> None:
    """Take leases out of the file; dnsmasq keeps its own copy, so it must not run meanwhile."""
    system.unit("stop", UNIT)
    gone = set(stale)
    kept = [line for line in (system.read_text(LEASES) or "").split("\n") if line and line not in gone]
    system.write_text(LEASES, "".join(line + "\n" for line in kept))
    system.unit("start", UNIT)
