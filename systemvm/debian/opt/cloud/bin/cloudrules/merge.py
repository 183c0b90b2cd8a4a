"""Merging of messages into the databags.

Pure functions: they return a new bag and leave the old one alone. Lists are kept sorted, so that the state does not
depend on the order in which messages came.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Callable, Dict, List, Optional

from .errors import Refused
from .messages import Message
from .store import Bag, Bags

# Name of the databag, where it differs from the type.
_BAG_NAMES = {"forwardrules": "forwardingrules", "staticnatrules": "forwardingrules", "ipaliases": "ips"}

# The subnets of a shared network: the entries of the hosts and the aliases say the same.
_STORED_NOWHERE = frozenset({"dhcpconfig"})

# The folders that a web site has; rows of others are for nobody.
METADATA_FOLDERS = ("userdata", "metadata")

DeviceOf = Callable[[str], Optional[str]]


def bag_name(kind: str) -> str:
    """Return the name of the databag that a message type is kept in."""
    return _BAG_NAMES.get(kind, kind)


def merge(bags: Bags, message: Message, device_of: DeviceOf) -> Bags:
    """Return the databags after a message.

    Args:
        bags: the state so far.
        message: what ``messages.parse`` returned.
        device_of: finds an interface by its MAC address.
    """
    kind = message["type"]
    if kind in _STORED_NOWHERE:
        return bags
    name = bag_name(kind)
    old = {key: value for key, value in bags.get(name, {}).items() if key != "id"}
    new = dict(_MERGERS[kind](old, message, device_of), id=name)
    result = dict(bags, **{name: new})
    if kind == "cmdline":
        seed = _seed_ips({k: v for k, v in bags.get("ips", {}).items() if k != "id"}, new["config"])
        result["ips"] = dict(seed, id="ips")
    return result


def ip_entry(address: str, bits: int, device: str, **more: Any) -> Dict[str, Any]:
    """Return the entry of one address in the databag ``ips``, with what follows from address and netmask."""
    net = ipaddress.IPv4Network(f"{address}/{bits}", strict=False)
    entry = {
        "public_ip": address,
        "netmask": str(net.netmask),
        "device": device,
        "cidr": f"{address}/{bits}",
        "network": str(net),
        "broadcast": str(net.broadcast_address),
        "size": str(bits),
        "source_nat": False,
        "add": True,
    }
    entry.update(more)
    return entry


def _without(bag: Bag, key: str) -> Bag:
    return {name: value for name, value in bag.items() if name != key}


def _keyed(bag: Bag, key: str, value: Any, remove: bool) -> Bag:
    return _without(bag, key) if remove else dict(bag, **{key: value})


def _roles(config: Dict[str, str]) -> Dict[str, str]:
    """Return what each interface of the command line is for."""
    control = control_device(config)
    roles = {control: "control"}
    others = {"vpcrouter": (), "secstorage": ("", "management", "public", "storage")}.get(config["type"])
    if others is None:
        others = ("guest", "guest", "public")
    for number, role in enumerate(others):
        roles.setdefault(f"eth{number}", role)
    return roles


def control_device(config: Dict[str, str]) -> str:
    """Return the interface on the control network: the link-local one, whatever its place (elbvm is inconsistent)."""
    if config.get("sshonguest") == "true":
        return "eth0"
    for number in range(3):
        if config.get(f"eth{number}ip", "").startswith("169.254."):
            return f"eth{number}"
    return "eth0" if config["type"] in ("vpcrouter", "secstorage", "consoleproxy") else "eth1"


def _seed_ips(ips: Bag, config: Dict[str, str]) -> Bag:
    """Put the addresses of the command line into the databag ``ips``; others that it holds stay."""
    result = dict(ips)
    for device, role in _roles(config).items():
        address = config.get(device + "ip", "0.0.0.0")
        if address == "0.0.0.0":
            continue
        bits = ipaddress.IPv4Network("0.0.0.0/{}".format(config.get(device + "mask", "32"))).prefixlen
        public = role == "public"
        entry = ip_entry(address, bits, device, nw_type=role, source_nat=public, first_i_p=public)
        if public and config.get("gateway"):
            entry["gateway"] = config["gateway"]
        result[device] = _sorted_ips(
            [row for row in ips.get(device, []) if row["public_ip"] != address] + [entry]
        )
    return result


def _sorted_ips(rows: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Source NAT first, for the first address of an interface is the one it speaks with; then by address."""
    return sorted(
        rows,
        key=lambda row: (not row["source_nat"], not row.get("first_i_p", False), _number(row["public_ip"])),
    )


def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


def _cmdline(_old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    config = dict(message["cmd_line"])
    config["redundant_router"] = (
        "false" if config.get("redundant_router", "false") in ("false", "0") else "true"
    )
    return {"config": config}


def _ips(old: Bag, message: Message, device_of: DeviceOf) -> Bag:
    """An address that comes back on another interface moves there."""
    bag = old
    for row in message["ip_address"]:
        address = row["public_ip"]
        device = _device_of_address(bag, row, device_of)
        bag = _without_address(bag, address)
        if device is not None and row["add"]:
            more = {key: value for key, value in row.items() if key not in ("netmask", "public_ip")}
            for key, unset in (("nw_type", "public"), ("source_nat", False)):
                more.setdefault(key, unset)
            entry = ip_entry(address, row["netmask"], device, **more)
            bag = dict(bag, **{device: _sorted_ips([*bag.get(device, []), entry])})
    return bag


def _without_address(bag: Bag, address: str) -> Bag:
    kept = {device: [row for row in rows if row["public_ip"] != address] for device, rows in bag.items()}
    return {device: rows for device, rows in kept.items() if rows}


def _device_of_address(bag: Bag, row: Dict[str, Any], device_of: DeviceOf) -> Optional[str]:
    """Return the interface with the MAC, else the numbered one, else the one that had the address; None: it is gone."""
    mac, address = row.get("vif_mac_address"), row["public_ip"]
    device = device_of(mac) if mac else None
    if device is None and "nic_dev_id" in row:
        device = "eth{}".format(row["nic_dev_id"])
    if device is None:
        held = [name for name, rows in bag.items() if any(entry["public_ip"] == address for entry in rows)]
        device = held[0] if held else None
    if device is None and row["add"]:
        raise Refused(f"ips: no interface has the MAC address {mac} of {address}, and nic_dev_id is missing")
    return device


def _plugged(message: Message, device_of: DeviceOf) -> str:
    """Return the interface that a tier's message is about."""
    kind, mac = message["type"], message["mac_address"]
    device = device_of(mac) or message.get("device")
    if device is None:
        raise Refused(f"{kind}: no interface has the MAC address {mac}")
    return str(device)


def _ip_aliases(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    rows = {row["public_ip"]: row for row in old.get("eth0", [])}
    for alias in message["aliases"]:
        address = alias["ip_address"]
        if alias["revoke"]:
            if rows.get(address, {}).get("alias"):
                del rows[address]
        elif address not in rows:
            rows[address] = ip_entry(address, alias["netmask"], "eth0", nw_type="guest", alias=True)
    return _keyed(old, "eth0", _sorted_ips(list(rows.values())), remove=not rows)


def _guest_network(old: Bag, message: Message, device_of: DeviceOf) -> Bag:
    """A tier that comes back on another interface moves there: its MAC address says which tier it is."""
    device, mac, address = _plugged(message, device_of), message["mac_address"], message["router_guest_ip"]
    bag = {
        name: rows
        for name, rows in old.items()
        if name != device and rows[0].get("mac_address") != mac and rows[0]["public_ip"] != address
    }
    if not message["add"]:
        return bag
    entry = ip_entry(address, message["router_guest_netmask"], device, nw_type="guest")
    entry.update({key: value for key, value in message.items() if key not in ("type", "device", "cidr")})
    return dict(bag, **{device: [entry]})


def _network_acl(old: Bag, message: Message, device_of: DeviceOf) -> Bag:
    device, mac = _plugged(message, device_of), message["mac_address"]
    entry = {key: value for key, value in message.items() if key != "type"}
    bag = {name: row for name, row in old.items() if row.get("mac_address") != mac}
    return dict(bag, **{device: dict(entry, device=device)})


def follow(bags: Bags, device_of: DeviceOf) -> Bags:
    """Return the databags with every entry of a known MAC address on the interface that has it now."""
    result = bags
    for name, mac_key in (
        ("guestnetwork", "mac_address"),
        ("networkacl", "mac_address"),
        ("ips", "vif_mac_address"),
    ):
        moved = _followed(
            {key: rows for key, rows in bags.get(name, {}).items() if key != "id"}, mac_key, device_of
        )
        if moved is not None:
            result = dict(result, **{name: dict(moved, id=name)})
    return result


def _followed(bag: Bag, mac_key: str, device_of: DeviceOf) -> Optional[Bag]:
    """Return a databag with its entries moved, or None when every entry is where it belongs."""
    moved: Bag = {}
    changed = False
    for device, rows in bag.items():
        first = rows[0] if isinstance(rows, list) else rows
        mac = first.get(mac_key)
        now = (device_of(mac) if mac else None) or device
        if now != device:
            changed = True
            rows = (
                [dict(row, device=now) for row in rows] if isinstance(rows, list) else dict(rows, device=now)
            )
        moved[now] = rows
    return moved if changed else None


def _firewall(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    bag = dict(old)
    for rule in message["rules"]:
        key = str(rule["id"])
        if rule["revoked"]:
            bag.pop(key, None)
        else:
            bag.setdefault(key, rule)
    return bag


def _same_sources(first: Dict[str, Any], second: Dict[str, Any]) -> bool:
    """Whether the sources of two forwarding rules overlap (none at all overlaps with none at all)."""
    one, other = first.get("source_cidr_list"), second.get("source_cidr_list")
    if not one or not other:
        return not one and not other
    return any(
        ipaddress.ip_network(here).overlaps(ipaddress.ip_network(there)) for here in one for there in other
    )


def _forward_row(rule: Dict[str, Any]) -> Dict[str, Any]:
    row = {
        "type": "forward",
        "public_ip": rule["source_ip_address"],
        "internal_ip": rule["destination_ip_address"],
        "protocol": rule["protocol"],
        "public_ports": rule["source_port_range"],
        "internal_ports": rule["destination_port_range"],
    }
    if rule.get("source_cidr_list"):
        row["source_cidr_list"] = sorted(set(rule["source_cidr_list"]))
    return row


def _forwards(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    """A rule belongs to an address, a protocol, ports and sources: rules of different sources share a port."""
    changed: Dict[str, Dict[Any, List[Dict[str, Any]]]] = {}
    for rule in message["rules"]:
        row = _forward_row(rule)
        public = row["public_ip"]
        if public not in changed:
            changed[public] = {}
            for entry in old.get(public, []):
                changed[public].setdefault(_forward_key(entry), []).append(entry)
        rows = changed[public].get(_forward_key(row), [])
        rows = [entry for entry in rows if not _same_sources(entry, row)]
        changed[public][_forward_key(row)] = rows if rule["revoke"] else [*rows, row]
    bag = old
    for public, groups in changed.items():
        found = [row for rows in groups.values() for row in rows]
        bag = _keyed(bag, public, sorted(found, key=_forwarding_order), remove=not found)
    return bag


def _forward_key(row: Dict[str, Any]) -> Any:
    return (row["type"], row.get("protocol"), row.get("public_ports"))


def _forwarding_order(row: Dict[str, Any]) -> Any:
    """A rule that names its sources stands before one for the same ports that does not."""
    sources = row.get("source_cidr_list", [])
    first = row.get("public_ports", "0:0").split(":")[0]
    return (
        row["type"],
        row.get("protocol", ""),
        int(first),
        row.get("public_ports", ""),
        not sources,
        sources,
    )


def _static_nats(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    """Static NAT takes the whole public address."""
    bag = old
    for rule in message["rules"]:
        public = rule["source_ip_address"]
        row = {"type": "staticnat", "public_ip": public, "internal_ip": rule["destination_ip_address"]}
        bag = _keyed(bag, public, [row], remove=rule["revoke"])
    return bag


def _load_balancer(_old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    return {"config": message["rules"]}


def _dhcp_entry(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    entry = {key: value for key, value in message.items() if key not in ("type", "remove")}
    bag = {key: row for key, row in old.items() if row["mac_address"] != entry["mac_address"]}
    key = entry.get("ipv4_address") or entry["ipv6_address"]
    return _keyed(bag, key, entry, remove=message.get("remove", False))


def _vm_data(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    """Passwords are handed out once, so none is kept here; a VM without an address cannot ask for anything."""
    address = message.get("vm_ip_address")
    if address is None:
        return old
    return dict(old, **{address: [list(row) for row in message["vm_metadata"] if row[0] in METADATA_FOLDERS]})


def _vm_password(_old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    return {message["ip_address"]: message["password"]}


def _static_routes(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    bag = old
    for route in message["routes"]:
        bag = _keyed(
            bag,
            route["network"],
            {key: route[key] for key in route if key != "revoke"},
            remove=route["revoke"],
        )
    return bag


def _vpn_users(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    bag = old
    for row in message["vpn_users"]:
        bag = _keyed(
            bag,
            row["user"],
            {"user": row["user"], "password": row.get("password", "")},
            remove=not row["add"],
        )
    return bag


def _by_key_and_create(key: str) -> Callable[[Bag, Message, DeviceOf], Bag]:
    def merger(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
        entry = {name: value for name, value in message.items() if name != "type"}
        return _keyed(old, message[key], entry, remove=not message["create"])

    return merger


def _monitor(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    """A refresh of the health data says nothing of the services to watch: those stay."""
    return dict(old, **{key: value for key, value in message.items() if key != "type"})


def _bgp_peers(_old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    return {"{}-{}".format(row["peer_id"], row["network_id"]): row for row in message["peers"]}


_MERGERS = {
    "cmdline": _cmdline,
    "ips": _ips,
    "ipaliases": _ip_aliases,
    "guestnetwork": _guest_network,
    "networkacl": _network_acl,
    "firewallrules": _firewall,
    "ipv6firewallrules": _firewall,
    "forwardrules": _forwards,
    "staticnatrules": _static_nats,
    "loadbalancer": _load_balancer,
    "dhcpentry": _dhcp_entry,
    "vmdata": _vm_data,
    "vmpassword": _vm_password,
    "staticroutes": _static_routes,
    "vpnuserlist": _vpn_users,
    "remoteaccessvpn": _by_key_and_create("vpn_server_ip"),
    "site2sitevpn": _by_key_and_create("peer_gateway_ip"),
    "monitorservice": _monitor,
    "bgppeers": _bgp_peers,
}
