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
    return {"config": message["cmd_line"]}


def _ips(old: Bag, message: Message, device_of: DeviceOf) -> Bag:
    bag = dict(old)
    for row in message["ip_address"]:
        address = row["public_ip"]
        mac = row.get("vif_mac_address")
        device = (device_of(mac) if mac else None) or _fallback_device(row, mac)
        rows = [entry for entry in bag.get(device, []) if entry["public_ip"] != address]
        if row["add"]:
            more = {key: value for key, value in row.items() if key not in ("netmask", "public_ip")}
            more.setdefault("nw_type", "public")
            rows.append(ip_entry(address, row["netmask"], device, **more))
        bag = _keyed(bag, device, _sorted_ips(rows), remove=not rows)
    return bag


def _fallback_device(row: Dict[str, Any], mac: Optional[str]) -> str:
    if "nic_dev_id" not in row:
        address = row["public_ip"]
        raise Refused(f"ips: no interface has the MAC address {mac} of {address}, and nic_dev_id is missing")
    return "eth{}".format(row["nic_dev_id"])


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
            rows.pop(address, None)
        else:
            rows[address] = ip_entry(address, alias["netmask"], "eth0", nw_type="guest", alias=True)
    return _keyed(old, "eth0", _sorted_ips(list(rows.values())), remove=not rows)


def _guest_network(old: Bag, message: Message, device_of: DeviceOf) -> Bag:
    device = _plugged(message, device_of)
    entry = ip_entry(message["router_guest_ip"], message["router_guest_netmask"], device, nw_type="guest")
    entry.update({key: value for key, value in message.items() if key not in ("type", "device", "cidr")})
    return _keyed(old, device, [entry], remove=not message["add"])


def _network_acl(old: Bag, message: Message, device_of: DeviceOf) -> Bag:
    device = _plugged(message, device_of)
    entry = {key: value for key, value in message.items() if key != "type"}
    return dict(old, **{device: dict(entry, device=device)})


def _firewall(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    bag = dict(old)
    for rule in message["rules"]:
        key = str(rule["id"])
        if rule["revoked"]:
            bag.pop(key, None)
        else:
            bag.setdefault(key, rule)
    return bag


def _forwarding(kind: str) -> Callable[[Bag, Message, DeviceOf], Bag]:
    def key(row: Dict[str, Any]) -> Any:
        return (row["type"], row.get("protocol", ""), row.get("public_ports", ""))

    def order(row: Dict[str, Any]) -> Any:
        first = row.get("public_ports", "0:0").split(":")[0]
        return (row["type"], row.get("protocol", ""), int(first), row.get("public_ports", ""))

    def merger(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
        changed: Dict[str, Dict[Any, Dict[str, Any]]] = {}
        for rule in message["rules"]:
            public = rule["source_ip_address"]
            row = {"type": kind, "public_ip": public, "internal_ip": rule["destination_ip_address"]}
            if kind == "forward":
                row["protocol"] = rule["protocol"]
                row["public_ports"] = rule["source_port_range"]
                row["internal_ports"] = rule["destination_port_range"]
                if rule.get("source_cidr_list"):
                    row["source_cidr_list"] = rule["source_cidr_list"]
            if public not in changed:
                changed[public] = {key(entry): entry for entry in old.get(public, [])}
            if rule["revoke"]:
                changed[public].pop(key(row), None)
            else:
                changed[public][key(row)] = row
        bag = dict(old)
        for public, rows in changed.items():
            bag = _keyed(bag, public, sorted(rows.values(), key=order), remove=not rows)
        return bag

    return merger


def _load_balancer(_old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    return {"config": message["rules"]}


def _dhcp_entry(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    entry = {key: value for key, value in message.items() if key not in ("type", "remove")}
    bag = {key: row for key, row in old.items() if row["mac_address"] != entry["mac_address"]}
    return _keyed(bag, entry["ipv4_address"], entry, remove=message.get("remove", False))


def _vm_data(old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    return dict(old, **{message["vm_ip_address"]: [list(row) for row in message["vm_metadata"]]})


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


def _replaced(_old: Bag, message: Message, _device_of: DeviceOf) -> Bag:
    return {key: value for key, value in message.items() if key != "type"}


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
    "forwardrules": _forwarding("forward"),
    "staticnatrules": _forwarding("staticnat"),
    "loadbalancer": _load_balancer,
    "dhcpentry": _dhcp_entry,
    "vmdata": _vm_data,
    "vmpassword": _vm_password,
    "staticroutes": _static_routes,
    "vpnuserlist": _vpn_users,
    "remoteaccessvpn": _by_key_and_create("vpn_server_ip"),
    "site2sitevpn": _by_key_and_create("peer_gateway_ip"),
    "monitorservice": _replaced,
    "bgppeers": _bgp_peers,
}
