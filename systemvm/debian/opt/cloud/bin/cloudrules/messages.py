"""What management sends: one check per databag type.

Field names are the ones of the JSON files; see docs/payload.md. A message that does not pass is refused as a whole.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Tuple

from . import fields
from .errors import Refused
from .fields import Check, boolean, each, host, integer, record, text

Message = Dict[str, Any]

_PROTOCOL = fields.choice("tcp", "udp", "icmp", "all")
_ICMP = integer(-1, 255)

_FIREWALL_RULE = record(
    {
        "id": integer(0, 2**63),
        "protocol": _PROTOCOL,
        "revoked": boolean,
        "traffic_type": fields.choice("ingress", "egress"),
    },
    {
        "src_ip": fields.address,
        "src_port_range": fields.pair,
        "source_cidr_list": each(fields.network),
        "dest_cidr_list": each(fields.network),
        "icmp_type": _ICMP,
        "icmp_code": _ICMP,
        "default_egress_policy": boolean,
        "purpose": text,
        "type": text,
    },
)
_IPV6_RULE = record(
    {
        "id": integer(0, 2**63),
        "protocol": _PROTOCOL,
        "revoked": boolean,
        "traffic_type": fields.choice("ingress", "egress"),
    },
    {
        "src_port_range": fields.pair,
        "source_cidr_list": each(fields.any_network),
        "dest_cidr_list": each(fields.any_network),
        "icmp_type": _ICMP,
        "icmp_code": _ICMP,
        "default_egress_policy": boolean,
        "guest_ip6_cidr": fields.any_network,
        "type": text,
    },
)
_ACL_RULE = record(
    {
        "type": fields.choice("tcp", "udp", "icmp", "all", "protocol"),
        "cidr": fields.network,
        "allowed": boolean,
    },
    {
        "first_port": fields.port,
        "last_port": fields.port,
        "icmp_type": _ICMP,
        "icmp_code": _ICMP,
        "protocol": integer(0, 255),
    },
)
_PUBLIC_IP = record(
    {"public_ip": fields.address, "netmask": fields.netmask, "add": boolean},
    {
        "source_nat": boolean,
        "one_to_one_nat": boolean,
        "first_i_p": boolean,
        "gateway": fields.address,
        "vif_mac_address": fields.mac,
        "nic_dev_id": integer(0, 63),
        "new_nic": boolean,
        "nw_type": fields.choice("public", "guest", "control"),
        "is_private_gateway": boolean,
        "mtu": integer(68, 65535),
        "vlan_id": text,
        "network_rate": text,
    },
)


def _cmd_line(value: Any) -> Dict[str, str]:
    """Accept the parameters of the command line: words without blanks."""
    if not isinstance(value, dict) or not value.get("type"):
        raise Refused("no parameters, or none that names the type")
    return {fields.text(key): fields.text(word) for key, word in value.items() if word != "null"}


def _metadata_row(value: Any) -> Tuple[str, str, str]:
    """Accept ``[folder, file, content]``; a null content is an empty file."""
    if not isinstance(value, list) or len(value) != 3:
        raise Refused(f"not [folder, file, content]: {value!r}")
    folder = fields.choice("userdata", "metadata", "password")(value[0])
    content = "" if value[2] is None else value[2]
    if not isinstance(content, str):
        raise Refused(f"not text: {content!r}")
    return folder, fields.name(value[1]), content


def _lines(value: Any) -> Any:
    """Accept the lines of a configuration file."""
    return each(_line)(value)


def _line(value: Any) -> str:
    """Accept one line, which may be indented by tabs."""
    if isinstance(value, str) and not any(ord(c) < 32 and c != "\t" for c in value):
        return value
    raise Refused(f"not one line: {value!r}")


SCHEMAS: Mapping[str, Check] = {
    "cmdline": record({"cmd_line": _cmd_line}, {}),
    "ips": record({"ip_address": each(_PUBLIC_IP)}, {}),
    "ipaliases": record(
        {
            "aliases": each(
                record(
                    {"revoke": boolean, "ip_address": fields.address, "netmask": fields.netmask},
                    {"count": integer(0, 4096)},
                )
            )
        },
        {},
    ),
    "guestnetwork": record(
        {
            "add": boolean,
            "mac_address": fields.mac,
            "router_guest_ip": fields.address,
            "router_guest_netmask": fields.netmask,
        },
        {
            "device": fields.name,
            "router_guest_gateway": fields.address,
            "cidr": integer(0, 32),
            "dns": text,
            "domain_name": host,
            "is_vr_guest_gateway": boolean,
            "mtu": integer(68, 65535),
            "default_gateway": fields.address,
        },
    ),
    "networkacl": record(
        {
            "mac_address": fields.mac,
            "nic_ip": fields.address,
            "nic_netmask": fields.netmask,
            "ingress_rules": each(_ACL_RULE),
            "egress_rules": each(_ACL_RULE),
        },
        {"device": fields.name, "private_gateway_acl": boolean},
    ),
    "firewallrules": record({"rules": each(_FIREWALL_RULE)}, {}),
    "ipv6firewallrules": record({"rules": each(_IPV6_RULE)}, {}),
    "forwardrules": record(
        {
            "rules": each(
                record(
                    {
                        "revoke": boolean,
                        "protocol": fields.choice("tcp", "udp"),
                        "source_ip_address": fields.address,
                        "source_port_range": fields.ports,
                        "destination_ip_address": fields.address,
                        "destination_port_range": fields.ports,
                    },
                    {"source_cidr_list": each(fields.network)},
                )
            )
        },
        {},
    ),
    "staticnatrules": record(
        {
            "rules": each(
                record(
                    {
                        "revoke": boolean,
                        "source_ip_address": fields.address,
                        "destination_ip_address": fields.address,
                    },
                    {},
                )
            )
        },
        {},
    ),
    "loadbalancer": record(
        {
            "rules": each(
                record(
                    {"configuration": _lines, "add_rules": each(text)},
                    {
                        "remove_rules": each(text),
                        "stat_rules": each(text),
                        "router_ip": fields.address,
                        "tmp_cfg_file_path": text,
                        "tmp_cfg_file_name": text,
                    },
                )
            )
        },
        {},
    ),
    "dhcpentry": record(
        {"mac_address": fields.mac, "ipv4_address": fields.address},
        {
            "host_name": host,
            "ipv6_address": fields.any_address,
            "ipv6_duid": text,
            "default_gateway": fields.any_address,
            "default_entry": boolean,
            "remove": boolean,
            "lease_time": integer(-1, 2**31),
        },
    ),
    "vmdata": record({"vm_ip_address": fields.any_address, "vm_metadata": each(_metadata_row)}, {}),
    "vmpassword": record({"ip_address": fields.any_address, "password": text}, {}),
    "staticroutes": record(
        {
            "routes": each(
                record(
                    {"revoke": boolean, "network": fields.network, "gateway": fields.address},
                    {"ip_address": fields.address},
                )
            )
        },
        {},
    ),
    "vpnuserlist": record(
        {"vpn_users": each(record({"user": fields.text, "add": boolean}, {"password": text}))},
        {},
    ),
    "remoteaccessvpn": record(
        {"create": boolean, "vpn_server_ip": fields.address},
        {
            "ip_range": text,
            "preshared_key": text,
            "local_ip": fields.address,
            "local_cidr": fields.network,
            "public_interface": fields.name,
        },
    ),
    "site2sitevpn": record(
        {"create": boolean, "local_public_ip": fields.address, "peer_gateway_ip": host},
        {
            "local_guest_cidr": text,
            "local_public_gateway": fields.address,
            "peer_guest_cidr_list": text,
            "esp_policy": text,
            "ike_policy": text,
            "ipsec_psk": text,
            "ike_version": fields.choice("ike", "ikev1", "ikev2"),
            "ike_lifetime": integer(1, 2**31),
            "esp_lifetime": integer(1, 2**31),
            "dpd": boolean,
            "passive": boolean,
            "encap": boolean,
            "split_connections": boolean,
        },
    ),
    "monitorservice": record(
        {},
        {
            "config": text,
            "health_checks_enabled": boolean,
            "health_checks_basic_run_interval": integer(0, 2**31),
            "health_checks_advanced_run_interval": integer(0, 2**31),
            "excluded_health_checks": text,
            "health_checks_config": lambda value: value,
            "disable_monitoring": boolean,
        },
    ),
    "bgppeers": record(
        {
            "peers": each(
                record(
                    {"peer_id": integer(0, 2**63), "network_id": integer(0, 2**63)},
                    {
                        "ip4_address": fields.address,
                        "ip6_address": fields.any_address,
                        "peer_as_number": integer(1, 2**32 - 1),
                        "network_as_number": integer(1, 2**32 - 1),
                        "peer_password": text,
                        "guest_ip4_cidr": fields.network,
                        "guest_ip6_cidr": fields.any_network,
                    },
                )
            )
        },
        {},
    ),
}


def parse(source: str) -> Message:
    """Read one databag as management sent it.

    Raises:
        Refused: it is no JSON, of an unknown type, or a field is missing or wrong; the text says which.
    """
    try:
        document = json.loads(source)
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused("not a JSON object")
    return check(document)


def check(document: Dict[str, Any]) -> Message:
    """Return the checked message; its ``type`` is one of ``SCHEMAS``."""
    kind = document.get("type")
    if not isinstance(kind, str) or kind not in SCHEMAS:
        known = ", ".join(sorted(SCHEMAS))
        raise Refused(f"unknown type {kind!r} (known: {known})")
    try:
        message = SCHEMAS[kind](document)
    except Refused as error:
        raise Refused(f"{kind}: {error}") from None
    message["type"] = kind
    return message
