"""The databags of a declared network, with the management server's keys and in its order.

The source of both is what CloudStack 4.22's management server sends.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from harness.network.haproxy import STATS_PORT, configuration
from harness.network.model import Acl, DeclaredMachine, DeclaredNic, Egress, Ingress, Network, PortRange
from harness.network.transport import Databag

_MTU = 1500


def start_bags(network: Network) -> tuple[Databag, ...]:
    """Return what a starting router is sent: tiers, rules, DHCP entries and metadata of the tenants."""
    tiers = tuple(_guest_network(network, nic) for nic in network.nics if nic.role == "tier")
    served = network.machines if network.serves_machines else ()
    tenants = [bag for machine in served for bag in (_dhcp(network, machine), _metadata(machine))]
    return (*tiers, *reapply_bags(network), *tenants)


def reapply_bags(network: Network) -> tuple[Databag, ...]:
    """Return what a restart of the network sends: every rule, but neither DHCP entries nor metadata."""
    bags = [
        _firewall(_default_egress(network)) if network.public else None,
        _firewall(_egress(network, rule, number) for number, rule in enumerate(network.egress, 1)),
        _addresses(network),
        *(_private_gateway(nic) for nic in network.private),
        _static_nat(network),
        _firewall(_ingress(rule, number) for number, rule in enumerate(network.ingress, 101)),
        _forwards(network),
        _load_balancers(network),
        *_vpn(network),
        *(_acl(network, nic) for nic in network.nics if nic.role in {"tier", "private"}),
        _routes(network),
    ]
    return tuple(bag for bag in bags if bag is not None)


def _firewall(rules: Iterable[dict[str, Any]]) -> Databag | None:
    listed = list(rules)
    return Databag("firewall_rules", {"rules": listed, "type": "firewallrules"}) if listed else None


def _rule(number: int, protocol: str, ports: PortRange | None, direction: str) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": number,
        "protocol": protocol,
        "revoked": False,
        "already_added": False,
        "purpose": "Firewall",
        "traffic_type": direction,
        "default_egress_policy": False,
        "type": "",
    }
    if ports:
        rule["src_port_range"] = [ports.first, ports.last]
    if protocol == "icmp":
        rule |= {"icmp_type": -1, "icmp_code": -1}
    return rule


def _default_egress(network: Network) -> list[dict[str, Any]]:
    sources = [str(nic.address.network) for nic in network.inside]
    allow = network.egress_default == "allow"
    return [
        _rule(0, "all", None, "Egress")
        | {
            "source_cidr_list": sources,
            "dest_cidr_list": [],
            "default_egress_policy": allow,
            "type": "System",
        }
    ]


def _egress(network: Network, rule: Egress, number: int) -> dict[str, Any]:
    """Return an egress rule; where everything may leave by default, it names what may not."""
    return _rule(number, rule.protocol, rule.ports, "Egress") | {
        "default_egress_policy": network.egress_default == "allow",
        "source_cidr_list": [str(cidr) for cidr in rule.sources],
        "dest_cidr_list": [str(cidr) for cidr in rule.destinations],
    }


def _ingress(rule: Ingress, number: int) -> dict[str, Any]:
    return _rule(number, rule.protocol, rule.ports, "Ingress") | {
        "src_ip": str(rule.public),
        "source_cidr_list": [str(cidr) for cidr in rule.cidrs],
        "dest_cidr_list": [],
    }


def _addresses(network: Network) -> Databag | None:
    nic = network.public
    if nic is None or not network.public_addresses:
        return None
    static = {rule.public for rule in network.static_nats}
    rows = [
        {
            "public_ip": str(row.address),
            "source_nat": row.source_nat,
            "add": True,
            "one_to_one_nat": row.address in static,
            "first_i_p": row.source_nat,
            **({"gateway": str(nic.gateway)} if nic.gateway else {}),
            "netmask": str(nic.address.netmask),
            "vif_mac_address": nic.mac,
            "nic_dev_id": int(nic.device.removeprefix("eth")),
            "new_nic": False,
            "nw_type": "public",
            "is_private_gateway": False,
            "mtu": _MTU,
        }
        for row in network.public_addresses
    ]
    return Databag("ip_associations", {"ip_address": rows, "type": "ips"})


def _private_gateway(nic: DeclaredNic) -> Databag:
    row = {
        "public_ip": str(nic.address.ip),
        "source_nat": False,
        "add": True,
        "one_to_one_nat": False,
        "first_i_p": True,
        **({"gateway": str(nic.gateway)} if nic.gateway else {}),
        "netmask": str(nic.address.netmask),
        "vif_mac_address": nic.mac,
        "nic_dev_id": int(nic.device.removeprefix("eth")),
        "new_nic": True,
        "nw_type": "public",
        "is_private_gateway": True,
        "mtu": _MTU,
    }
    return Databag("ip_associations", {"ip_address": [row], "type": "ips"})


def _static_nat(network: Network) -> Databag | None:
    rules = [
        {
            "revoke": False,
            "source_ip_address": str(rule.public),
            "source_port_range": "0:0",
            "destination_ip_address": str(rule.private),
        }
        for rule in network.static_nats
    ]
    return Databag("staticnat_rules", {"rules": rules, "type": "staticnatrules"}) if rules else None


def _forwards(network: Network) -> Databag | None:
    rules = [
        {
            "revoke": False,
            "protocol": rule.protocol,
            "source_ip_address": str(rule.public),
            "source_port_range": str(rule.public_ports),
            "destination_ip_address": str(rule.private),
            "destination_port_range": str(rule.private_ports),
        }
        for rule in network.forwards
    ]
    return Databag("forwarding_rules", {"rules": rules, "type": "forwardrules"}) if rules else None


def _load_balancers(network: Network) -> Databag | None:
    if not network.load_balancers:
        return None
    control = network.control.address.ip
    rule = {
        "configuration": configuration(network.load_balancers, control),
        "tmp_cfg_file_path": "/etc/haproxy/",
        "tmp_cfg_file_name": "haproxy.cfg.new",
        "add_rules": [f"{rule.public}:{rule.port}:" for rule in network.load_balancers],
        "remove_rules": [],
        "stat_rules": [f"{control}:{STATS_PORT}:0/0:,"],
        "router_ip": str(control),
    }
    return Databag("load_balancer", {"rules": [rule], "type": "loadbalancer"})


def _vpn(network: Network) -> list[Databag]:
    vpn, public = network.vpn, network.public
    if vpn is None or public is None:
        return []
    first, _, _ = vpn.pool.partition("-")
    server = {
        "create": True,
        "ip_range": vpn.pool,
        "preshared_key": vpn.preshared_key,
        "vpn_server_ip": str(vpn.public),
        "local_ip": first,
        "local_cidr": str(network.inside[0].address.network),
        "public_interface": public.device,
        "type": "remoteaccessvpn",
    }
    users = [{"user": user, "password": password, "add": True} for user, password in vpn.users]
    return [
        Databag("remote_access_vpn", server),
        Databag("vpn_user_list", {"vpn_users": users, "type": "vpnuserlist"}),
    ]


def _acl(network: Network, nic: DeclaredNic) -> Databag | None:
    rows = [acl for acl in network.acls if acl.device == nic.device]
    if not rows:
        return None
    return Databag(
        "network_acl",
        {
            "device": nic.device,
            "mac_address": nic.mac,
            "private_gateway_acl": nic.role == "private",
            "nic_ip": str(nic.address.ip),
            "nic_netmask": str(nic.address.network.prefixlen),
            "ingress_rules": [_acl_rule(row) for row in rows if row.direction == "ingress"],
            "egress_rules": [_acl_rule(row) for row in rows if row.direction == "egress"],
            "type": "networkacl",
        },
    )


def _acl_rule(acl: Acl) -> dict[str, Any]:
    rule: dict[str, Any] = {"type": acl.protocol}
    if acl.ports:
        rule |= {"first_port": acl.ports.first, "last_port": acl.ports.last}
    if acl.protocol == "icmp":
        rule |= {"icmp_type": -1, "icmp_code": -1}
    return rule | {"cidr": str(acl.cidr), "allowed": acl.allowed}


def _routes(network: Network) -> Databag | None:
    routes = [
        {
            "revoke": False,
            "ip_address": str(route.address),
            "gateway": str(route.gateway),
            "network": str(route.network),
        }
        for route in network.routes
    ]
    return Databag("static_routes", {"routes": routes, "type": "staticroutes"}) if routes else None


def _guest_network(network: Network, nic: DeclaredNic) -> Databag:
    return Databag(
        "guest_network",
        {
            "add": True,
            "mac_address": nic.mac,
            "device": nic.device,
            "router_guest_ip": str(nic.address.ip),
            "router_guest_netmask": str(nic.address.netmask),
            "router_guest_gateway": str(nic.gateway or nic.address.ip),
            "cidr": str(nic.address.network.prefixlen),
            "dns": ",".join(map(str, network.dns)),
            "domain_name": network.domain,
            "is_vr_guest_gateway": True,
            "mtu": _MTU,
            "type": "guestnetwork",
        },
    )


def _dhcp(network: Network, machine: DeclaredMachine) -> Databag:
    return Databag(
        "vm_dhcp_entry",
        {
            "host_name": machine.name,
            "mac_address": machine.mac,
            "ipv4_address": str(machine.address),
            "default_gateway": str(network.way_out_of(machine.address)),
            "default_entry": True,
            "remove": False,
            "type": "dhcpentry",
        },
    )


def _metadata(machine: DeclaredMachine) -> Databag:
    encoded = base64.b64encode(machine.user_data.encode()).decode()
    values: list[list[str | None]] = [["userdata", "user-data", encoded]] if machine.user_data else []
    values += [["metadata", "local-ipv4", str(machine.address)], ["metadata", "local-hostname", machine.name]]
    values += [["metadata", name, value or None] for name, value in machine.metadata]
    return Databag(
        "vm_metadata", {"vm_ip_address": str(machine.address), "vm_metadata": values, "type": "vmdata"}
    )
