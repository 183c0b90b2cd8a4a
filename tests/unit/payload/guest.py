"""The guest's rules as a module of the tests, and messages to feed them with."""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

SYSTEMVM = Path(__file__).resolve().parents[3] / "systemvm"
PROGRAMS = SYSTEMVM / "debian" / "opt" / "cloud" / "bin"
MACS = {
    "1e:00:aa:00:00:04": "eth2",
    "02:00:00:00:20:01": "eth2",
    "02:00:00:00:20:02": "eth3",
    "1e:00:00:00:00:01": "eth1",
}


def module(name: str) -> ModuleType:
    """Import a module of the guest without leaving byte code in the payload."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(PROGRAMS))
    try:
        return importlib.import_module(f"cloudrules.{name}")
    finally:
        sys.path.remove(str(PROGRAMS))
        sys.dont_write_bytecode = before


def merged(*documents: dict[str, Any]) -> dict[str, Any]:
    """Return the databags after these messages."""
    merge, messages = module("merge"), module("messages")
    return reduce(lambda bags, document: merge.merge(bags, messages.check(document), MACS.get), documents, {})


def state(*documents: dict[str, Any], primary: bool = True) -> Any:
    """Return the state that a part is given."""
    bags = merged(*documents)
    found = module("topology").read(bags)
    checked = tuple(module("messages").check(document) for document in documents)
    return module("state").State(bags, found, checked, primary, booting=False)


def command_line(**parameters: str) -> dict[str, Any]:
    return {"type": "cmdline", "cmd_line": parameters}


ROUTER = command_line(
    type="router", name="r-10-VM", eth0ip="10.1.1.1", eth0mask="255.255.255.0", eth1ip="169.254.12.34",
    eth1mask="255.255.0.0", eth2ip="192.0.2.10", eth2mask="255.255.255.0", gateway="192.0.2.1",
    domain="cs1.cloud.internal", dhcprange="10.1.1.1", dns1="192.0.2.53", privateMtu="1500",
)  # fmt: skip
REDUNDANT = command_line(**{
    **ROUTER["cmd_line"], "eth0ip": "10.1.1.11", "redundant_router": "1", "guestgw": "10.1.1.1", "advert_int": "1",
    "guestbrd": "10.1.1.255", "guestcidrsize": "24", "redundant_state": "PRIMARY", "router_password": "0123456789",
})  # fmt: skip
VPC = command_line(
    type="vpcrouter", name="r-20-VM", vpccidr="10.20.0.0/16", domain="cs2.cloud.internal", dns1="192.0.2.53",
    eth0ip="169.254.20.5", eth0mask="255.255.0.0", has_public_network="true",
)  # fmt: skip
SHARED = command_line(
    type="dhcpsrvr", name="r-30-VM", eth0ip="10.30.0.5", eth0mask="255.255.255.0", gateway="10.30.0.1",
    domain="cs3.cloud.internal", dhcprange="10.30.0.1", eth1ip="169.254.7.8", eth1mask="255.255.0.0", dns1="192.0.2.53",
    useextdns="true", dnssearchorder="cs3.cloud.internal,example.org",
)  # fmt: skip
INTERNAL = command_line(
    type="ilbvm", name="b-40-VM", eth0ip="10.20.1.100", eth0mask="255.255.255.0", gateway="10.20.1.1", dns1="10.20.1.1",
    eth1ip="169.254.3.4", eth1mask="255.255.0.0",
)  # fmt: skip
PUBLIC_IP = {
    "type": "ips",
    "ip_address": [
        {
            "public_ip": "192.0.2.20", "source_nat": False, "add": True, "one_to_one_nat": False, "first_i_p": False,
            "gateway": "192.0.2.1", "netmask": "255.255.255.0", "vif_mac_address": "1e:00:aa:00:00:04", "nic_dev_id": 2,
            "new_nic": False, "nw_type": "public", "is_private_gateway": False, "mtu": 1500,
        }
    ],
}  # fmt: skip
FIREWALL = {
    "type": "firewallrules",
    "rules": [
        {
            "id": 5, "src_ip": "192.0.2.10", "protocol": "tcp", "src_port_range": [22, 22], "revoked": False,
            "already_added": False, "source_cidr_list": ["0.0.0.0/0"], "dest_cidr_list": [], "purpose": "Firewall",
            "traffic_type": "Ingress", "default_egress_policy": False, "type": "",
        },
        {
            "id": 6, "src_ip": "192.0.2.10", "protocol": "icmp", "icmp_type": 8, "icmp_code": -1, "revoked": False,
            "source_cidr_list": ["198.51.100.0/24", "203.0.113.0/24"], "traffic_type": "Ingress",
        },
        {
            "id": 7, "protocol": "udp", "src_port_range": [53, 60], "revoked": False,
            "source_cidr_list": ["10.1.1.0/24"],
            "dest_cidr_list": ["198.51.100.0/24"], "traffic_type": "Egress", "default_egress_policy": False,
        },
        {"id": 8, "protocol": "all", "revoked": False, "traffic_type": "Egress", "default_egress_policy": False},
    ],
}  # fmt: skip
FORWARD = {
    "type": "forwardrules",
    "rules": [
        {
            "revoke": False, "protocol": "tcp", "source_ip_address": "192.0.2.10", "source_port_range": "2222:2222",
            "destination_ip_address": "10.1.1.50", "destination_port_range": "22:22",
        },
        {
            "revoke": False, "protocol": "udp", "source_ip_address": "192.0.2.10", "source_port_range": "5000:5010",
            "destination_ip_address": "10.1.1.51", "destination_port_range": "6000:6010",
        },
    ],
}  # fmt: skip
STATIC_NAT = {
    "type": "staticnatrules",
    "rules": [
        {
            "revoke": False, "source_ip_address": "192.0.2.20", "source_port_range": "0:0",
            "destination_ip_address": "10.1.1.60",
        }
    ],
}  # fmt: skip
BALANCER = {
    "type": "loadbalancer",
    "rules": [
        {
            "configuration": ["listen 192_0_2_10-80", "\tbind 192.0.2.10:80", "\tserver a 10.1.1.50:80 check"],
            "add_rules": ["192.0.2.10:80:"], "remove_rules": [], "stat_rules": ["169.254.12.34:8081:0/0:,"],
            "router_ip": "169.254.12.34",
        }
    ],
}  # fmt: skip
DHCP = [
    {
        "type": "dhcpentry", "host_name": "vm1", "mac_address": "02:00:26:C3:00:02", "ipv4_address": "10.1.1.50",
        "default_gateway": "10.1.1.1", "default_entry": True, "remove": False,
    },
    {
        "type": "dhcpentry", "host_name": "vm2", "mac_address": "02:00:26:c3:00:03", "ipv4_address": "10.1.1.9",
        "default_gateway": "10.1.1.1", "default_entry": False, "remove": False,
    },
]  # fmt: skip
STATIC_ROUTE = {
    "type": "staticroutes",
    "routes": [
        {"revoke": False, "ip_address": "10.20.1.9", "gateway": "10.20.1.9", "network": "172.30.0.0/16"}
    ],
}
VPC_PUBLIC = {
    "type": "ips",
    "ip_address": [
        {
            "public_ip": "198.51.100.10", "source_nat": True, "add": True, "first_i_p": True, "gateway": "198.51.100.1",
            "netmask": "255.255.255.0", "vif_mac_address": "1e:00:00:00:00:01", "nic_dev_id": 1, "nw_type": "public",
        }
    ],
}  # fmt: skip
TIER = {
    "type": "guestnetwork", "add": True, "mac_address": "02:00:00:00:20:01", "device": "eth2",
    "router_guest_ip": "10.20.1.1", "router_guest_netmask": "255.255.255.0", "router_guest_gateway": "10.20.1.1",
    "cidr": "24", "dns": "10.20.1.1,192.0.2.53", "domain_name": "cs2.cloud.internal", "is_vr_guest_gateway": True,
    "mtu": 1500,
}  # fmt: skip
ACL = {
    "type": "networkacl", "device": "eth2", "mac_address": "02:00:00:00:20:01", "private_gateway_acl": False,
    "nic_ip": "10.20.1.1", "nic_netmask": "24",
    "ingress_rules": [
        {"type": "tcp", "first_port": 22, "last_port": 22, "cidr": "0.0.0.0/0", "allowed": True},
        {"type": "udp", "first_port": 1, "last_port": 99, "cidr": "10.20.2.0/24", "allowed": False},
        {"type": "icmp", "icmp_type": 8, "icmp_code": 0, "cidr": "0.0.0.0/0", "allowed": True},
        {"type": "protocol", "protocol": 112, "cidr": "0.0.0.0/0", "allowed": True},
    ],
    "egress_rules": [{"type": "all", "cidr": "0.0.0.0/0", "allowed": True}],
}  # fmt: skip
VPC_FORWARD = {
    "type": "forwardrules",
    "rules": [
        {
            "revoke": False, "protocol": "tcp", "source_ip_address": "198.51.100.10", "source_port_range": "2222:2222",
            "destination_ip_address": "10.20.1.50", "destination_port_range": "22:22",
        }
    ],
}  # fmt: skip
SITE_VPN = {
    "type": "site2sitevpn", "create": True, "local_public_ip": "192.0.2.10", "local_guest_cidr": "10.1.1.0/24",
    "peer_gateway_ip": "203.0.113.7", "peer_guest_cidr_list": "10.9.0.0/16,10.8.0.0/16", "esp_policy": "aes128-sha1",
    "ike_policy": "aes128-sha1;modp1536", "ipsec_psk": "s3cret", "ike_version": "ikev2", "ike_lifetime": 86400,
    "esp_lifetime": 3600, "dpd": True, "passive": False, "encap": False, "split_connections": True,
}  # fmt: skip
REMOTE_VPN = {
    "type": "remoteaccessvpn", "create": True, "vpn_server_ip": "192.0.2.10", "ip_range": "10.1.2.2-10.1.2.8",
    "preshared_key": "s3cret", "local_ip": "10.1.2.1", "local_cidr": "10.1.1.0/24", "public_interface": "eth2",
}  # fmt: skip
MONITOR = {
    "type": "monitorservice",
    "config": "[dhcp]:processname=dnsmasq:servicename=dnsmasq:pidfile=/run/dnsmasq/dnsmasq.pid:,"
    "[ssh]:processname=sshd:servicename=ssh:", "health_checks_enabled": True, "health_checks_basic_run_interval": 3,
    "health_checks_advanced_run_interval": 120, "excluded_health_checks": "", "delete_from_processed_cache": True,
}  # fmt: skip
PEERS = {
    "type": "bgppeers",
    "peers": [
        {
            "peer_id": 1, "network_id": 2, "ip4_address": "192.0.2.1", "peer_as_number": 65001,
            "network_as_number": 65010,
            "peer_password": "s3cret", "guest_ip4_cidr": "10.1.1.0/24",
        }
    ],
}  # fmt: skip
