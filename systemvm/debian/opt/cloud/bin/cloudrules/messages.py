"""Messages of management: the model of each, from which the reader of the guest is made.

The keys, their JSON types and their first releases are those of the management server's own classes from 4.14 to 4.22,
not those of an example. ``parse`` reads as the guest does; ``strange`` says where a message is not as a server of a
release writes it, and is meant for whoever sends or builds messages.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

from . import commandline, fields, shapes
from .errors import Refused, Unknown
from .shapes import BOOLEAN, FIRST, Key, Shape, listing, mapping, number, string

Message = Dict[str, Any]

_ID = number(0, 2**63)
_SECONDS = number(1, 2**31)
_MTU = number(68, 65535)
_AS_NUMBER = number(1, 2**32 - 1)
_ADDRESS, _ADDRESS6 = string(fields.address), string(fields.address6)
_NETMASK, _MAC, _DEVICE = string(fields.netmask), string(fields.mac), string(fields.name)
_PORTS = string(fields.ports)
_TEXTS = listing(string())
_NETWORKS, _NETWORKS6 = listing(string(fields.network)), listing(string(fields.network6))
_ICMP = number(-1, 255)
_PREFIX, _PREFIX6 = string(fields.integer(0, 32)), string(fields.integer(0, 128))
_V4_17, _V4_18, _V4_20 = ("4.17.0",), ("4.18.0",), ("4.20.0",)


def _texts(value: Any) -> Dict[str, str]:
    """Accept an object whose values are texts of any number of lines."""
    if not isinstance(value, dict):
        raise Refused(f"not an object: {value!r}")
    return {fields.text(key): fields.content(word) for key, word in value.items() if word is not None}


def _metadata_row(value: Any) -> List[Any]:
    """Accept ``[folder, file, content]``: null is an empty file, an empty text no file at all."""
    if not isinstance(value, list) or len(value) != 3:
        raise Refused(f"not [folder, file, content]: {value!r}")
    folder, text = fields.text(value[0]), value[2]
    if folder == "password":
        return [folder, "", fields.text(text)]
    if text is not None:
        text = fields.content(text)
        if folder == "userdata":
            decode_user_data(text)
    return [folder, fields.file_name(value[1]), text]


def decode_user_data(text: str) -> bytes:
    """Return user data without its base64, whose padding may be missing.

    Raises:
        Refused: it is not base64.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise Refused("the user data is not base64") from None


def _rule_keys(networks: Shape, *more: Key) -> Shape:
    """Return the list of firewall rules of one family."""
    return listing(
        mapping(
            Key("id", _ID, "needed"),
            Key("protocol", string(fields.choice("tcp", "udp", "icmp", "all")), "needed"),
            Key("revoked", BOOLEAN, "needed"),
            Key("already_added", BOOLEAN),
            Key("traffic_type", string(fields.choice("ingress", "egress")), "needed"),
            Key("src_port_range", Shape("list", fields.pair), "maybe"),
            Key("source_cidr_list", networks),
            Key("dest_cidr_list", networks),
            Key("icmp_type", _ICMP, "maybe"),
            Key("icmp_code", _ICMP, "maybe"),
            Key("default_egress_policy", BOOLEAN),
            Key("purpose", string()),
            *more,
        )
    )


def _address_or_nothing(value: Any) -> str:
    """Accept an IPv4 address or an empty text: an egress rule has no public address."""
    return "" if value == "" else fields.address(value)


_FIREWALL_RULES = _rule_keys(_NETWORKS, Key("src_ip", string(_address_or_nothing), "maybe"))
_IPV6_RULES = _rule_keys(
    _NETWORKS6,
    Key("src_ip", string(_address_or_nothing), "maybe"),
    Key("guest_ip6_cidr", string(fields.network6), "needed"),
)
_ACL_RULES = listing(
    mapping(
        Key("type", string(fields.choice("tcp", "udp", "icmp", "all", "protocol")), "needed"),
        Key("cidr", string(fields.joined(fields.any_network)), "needed"),
        Key("allowed", BOOLEAN, "needed"),
        Key("first_port", number(0, 65535), "maybe"),
        Key("last_port", number(0, 65535), "maybe"),
        Key("icmp_type", _ICMP, "maybe"),
        Key("icmp_code", _ICMP, "maybe"),
        Key("protocol", number(0, 255), "maybe"),
    )
)
_PUBLIC_IPS = listing(
    mapping(
        Key("public_ip", _ADDRESS, "needed"),
        Key("netmask", _NETMASK, "needed"),
        Key("add", BOOLEAN, "needed"),
        Key("source_nat", BOOLEAN),
        Key("one_to_one_nat", BOOLEAN),
        Key("first_i_p", BOOLEAN),
        Key("gateway", _ADDRESS, "maybe"),
        Key("vif_mac_address", _MAC, "maybe"),
        Key("nic_dev_id", number(0, 63), "maybe"),
        Key("new_nic", BOOLEAN),
        Key("nw_type", string(fields.choice("public", "guest", "control")), "maybe"),
        Key("is_private_gateway", BOOLEAN, since=("4.14.1",)),
        Key("mtu", _MTU, "maybe", _V4_18),
    )
)
_IP_ALIASES = listing(
    mapping(
        Key("revoke", BOOLEAN, "needed"),
        Key("ip_address", _ADDRESS, "needed"),
        Key("netmask", _NETMASK, "needed"),
        Key("count", number(0, 2**31)),
    )
)
_DHCP_CONFIGS = listing(
    mapping(
        Key("router_ip_address", _ADDRESS),
        Key("gateway", _ADDRESS),
        Key("netmask", _NETMASK),
        Key("first_ip_of_subnet", _ADDRESS),
    )
)
_FORWARDS = listing(
    mapping(
        Key("revoke", BOOLEAN, "needed"),
        Key("protocol", string(fields.choice("tcp", "udp")), "needed"),
        Key("source_ip_address", _ADDRESS, "needed"),
        Key("source_port_range", _PORTS, "needed"),
        Key("destination_ip_address", _ADDRESS, "needed"),
        Key("destination_port_range", _PORTS, "needed"),
        Key("source_cidr_list", string(fields.cidr_list), "sent", ("4.19.2", "4.20.1")),
    )
)
_STATIC_NATS = listing(
    mapping(
        Key("revoke", BOOLEAN, "needed"),
        Key("source_ip_address", _ADDRESS, "needed"),
        Key("destination_ip_address", _ADDRESS, "needed"),
        Key("source_port_range", _PORTS),
        Key("protocol", string(fields.choice("tcp", "udp")), "maybe"),
    )
)
_CERTIFICATES = listing(
    mapping(
        Key("name", string(fields.name), "needed"),
        Key("cert", string(fields.pem), "needed"),
        Key("key", string(fields.pem), "needed"),
        Key("chain", string(fields.pem), "maybe"),
        Key("password", string(), "maybe"),
    )
)
_BALANCERS = listing(
    mapping(
        Key("configuration", listing(string(fields.lines)), "needed"),
        Key("tmp_cfg_file_path", string()),
        Key("tmp_cfg_file_name", string()),
        Key("ssl_certs", _CERTIFICATES, "sent", ("4.22.0",)),
        Key("add_rules", listing(string(fields.listener)), "needed"),
        Key("remove_rules", _TEXTS),
        Key("stat_rules", listing(string(fields.listener))),
        Key("router_ip", _ADDRESS),
    )
)
_ROUTES = listing(
    mapping(
        Key("revoke", BOOLEAN, "needed"),
        Key("network", string(fields.network), "needed"),
        Key("gateway", _ADDRESS, "needed"),
        Key("ip_address", _ADDRESS, "maybe"),
    )
)
_VPN_USERS = listing(
    mapping(Key("user", string(), "needed"), Key("password", string(), "sent"), Key("add", BOOLEAN, "needed"))
)
_PEERS = listing(
    mapping(
        Key("peer_id", _ID, "needed"),
        Key("peer_as_number", _AS_NUMBER, "needed"),
        Key("ip4_address", _ADDRESS, "maybe"),
        Key("ip6_address", _ADDRESS6, "maybe"),
        Key("peer_password", string(), "maybe"),
        Key("network_id", _ID, "needed"),
        Key("network_as_number", _AS_NUMBER, "needed"),
        Key("guest_ip4_cidr", string(fields.network), "maybe"),
        Key("guest_ip6_cidr", string(fields.network6), "maybe"),
        Key("details", Shape("object", _texts)),
    )
)


class Model(NamedTuple):
    """One message: the stem of its file, its own keys, and the first release that sends it."""

    stem: str
    keys: Tuple[Key, ...]
    since: str = FIRST


MODELS: Mapping[str, Model] = {
    "cmdline": Model("cmd_line", (Key("cmd_line", Shape("object", commandline.check), "needed"),)),
    "ips": Model("ip_associations", (Key("ip_address", _PUBLIC_IPS, "needed"),)),
    "ipaliases": Model("ip_aliases", (Key("aliases", _IP_ALIASES, "needed"),)),
    "dhcpconfig": Model("dhcp", (Key("entries", _DHCP_CONFIGS),)),
    "guestnetwork": Model(
        "guest_network",
        (
            Key("add", BOOLEAN, "needed"),
            Key("mac_address", _MAC, "needed"),
            Key("device", _DEVICE),
            Key("router_guest_ip", _ADDRESS, "needed"),
            Key("router_guest_netmask", _NETMASK, "needed"),
            Key("router_guest_gateway", _ADDRESS),
            Key("cidr", _PREFIX),
            Key("dns", string(fields.joined(fields.any_address)), "maybe"),
            Key("domain_name", string(fields.host), "maybe"),
            Key("is_vr_guest_gateway", BOOLEAN, "sent", _V4_20),
            Key("network_id", _ID, "sent", ("4.21.0",)),
            Key("mtu", _MTU, "sent", _V4_18),
            Key("cidr6", _PREFIX6, "maybe", _V4_17),
            Key("dns6", string(fields.joined(fields.address6)), "maybe", _V4_17),
            Key("router_guest_ip6", _ADDRESS6, "maybe", _V4_17),
            Key("router_guest_ip6_gateway", _ADDRESS6, "maybe", _V4_17),
            Key("router_guest_ip6_cidr", string(fields.network6), "maybe", _V4_17),
            Key("router_ip6", _ADDRESS6, "maybe", _V4_17),
            Key("router_ip6_gateway", _ADDRESS6, "maybe", _V4_17),
            Key("router_ip6_cidr", string(fields.network6), "maybe", _V4_17),
        ),
    ),
    "networkacl": Model(
        "network_acl",
        (
            Key("device", _DEVICE),
            Key("mac_address", _MAC, "needed"),
            Key("private_gateway_acl", BOOLEAN),
            Key("nic_ip", _ADDRESS, "needed"),
            Key("nic_netmask", _NETMASK, "needed"),
            Key("nic_ip6_cidr", string(fields.network6), "maybe", _V4_17),
            Key("ingress_rules", _ACL_RULES, "needed"),
            Key("egress_rules", _ACL_RULES, "needed"),
        ),
    ),
    "firewallrules": Model("firewall_rules", (Key("rules", _FIREWALL_RULES, "needed"),)),
    "ipv6firewallrules": Model("ipv6_firewall_rules", (Key("rules", _IPV6_RULES, "needed"),), "4.17.0"),
    "forwardrules": Model("forwarding_rules", (Key("rules", _FORWARDS, "needed"),)),
    "staticnatrules": Model("staticnat_rules", (Key("rules", _STATIC_NATS, "needed"),)),
    "loadbalancer": Model("load_balancer", (Key("rules", _BALANCERS, "needed"),)),
    "dhcpentry": Model(
        "vm_dhcp_entry",
        (
            Key("host_name", string(fields.host), "maybe"),
            Key("mac_address", _MAC, "needed"),
            Key("ipv4_address", _ADDRESS, "maybe"),
            Key("ipv6_address", _ADDRESS6, "maybe"),
            Key("ipv6_duid", string(fields.duid)),
            Key("dns_addresses", string(), "maybe"),
            Key("default_gateway", string(fields.any_address), "maybe"),
            Key("default_entry", BOOLEAN),
            Key("remove", BOOLEAN),
        ),
    ),
    "vmdata": Model(
        "vm_metadata",
        (
            Key("vm_ip_address", string(fields.any_address), "maybe"),
            Key("vm_metadata", listing(Shape("list", _metadata_row)), "needed"),
        ),
    ),
    "vmpassword": Model(
        "vm_password",
        (Key("ip_address", string(fields.any_address), "needed"), Key("password", string(), "needed")),
    ),
    "staticroutes": Model("static_routes", (Key("routes", _ROUTES, "needed"),)),
    "vpnuserlist": Model("vpn_user_list", (Key("vpn_users", _VPN_USERS, "needed"),)),
    "remoteaccessvpn": Model(
        "remote_access_vpn",
        (
            Key("create", BOOLEAN, "needed"),
            Key("ip_range", string()),
            Key("preshared_key", string()),
            Key("vpn_server_ip", _ADDRESS, "needed"),
            Key("local_ip", _ADDRESS),
            Key("local_cidr", string(fields.network)),
            Key("public_interface", _DEVICE),
        ),
    ),
    "site2sitevpn": Model(
        "site_2_site_vpn",
        (
            Key("create", BOOLEAN, "needed"),
            Key("local_public_ip", _ADDRESS, "needed"),
            Key("local_guest_cidr", string(fields.joined(fields.network))),
            Key("local_public_gateway", _ADDRESS),
            Key("peer_gateway_ip", string(fields.host), "needed"),
            Key("peer_guest_cidr_list", string(fields.joined(fields.network))),
            Key("esp_policy", string()),
            Key("ike_policy", string()),
            Key("ipsec_psk", string()),
            Key("ike_version", string(fields.choice("ike", "ikev1", "ikev2")), "sent", ("4.15.1",)),
            Key("ike_lifetime", _SECONDS),
            Key("esp_lifetime", _SECONDS),
            Key("dpd", BOOLEAN),
            Key("passive", BOOLEAN),
            Key("encap", BOOLEAN),
            Key("split_connections", BOOLEAN, "sent", ("4.15.1",)),
        ),
    ),
    "monitorservice": Model(
        "monitor_service",
        (
            Key("config", string(), "maybe"),
            Key("disable_monitoring", string(fields.boolean), "maybe"),
            Key("health_checks_enabled", BOOLEAN),
            Key("health_checks_basic_run_interval", number(0, 2**31)),
            Key("health_checks_advanced_run_interval", number(0, 2**31)),
            Key("excluded_health_checks", string()),
            Key("health_checks_config", Shape("object", _texts)),
        ),
    ),
    "bgppeers": Model("bgp_peers", (Key("peers", _PEERS, "needed"),), "4.20.0"),
}
_ENVELOPE = (Key("type", string()), Key("delete_from_processed_cache", BOOLEAN))


def parse(source: str) -> Message:
    """Read one databag as management sent it.

    Raises:
        Unknown: it is of a type that this guest does not know.
        Refused: it is no JSON, or a field is missing or wrong; the text says which.
    """
    try:
        document = json.loads(source)
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from None
    except RecursionError:
        raise Refused("not a message: its JSON is nested too deeply") from None
    if not isinstance(document, dict):
        raise Refused("not a JSON object")
    return check(document)


def check(document: Dict[str, Any]) -> Message:
    """Return the checked message; its ``type`` is one of ``MODELS``.

    Raises:
        Unknown: it is of a type that this guest does not know.
        Refused: a field is missing or wrong; the text says which.
    """
    kind = document.get("type")
    if not isinstance(kind, str):
        raise Refused(f"no type of a message: {kind!r}")
    if kind not in MODELS:
        raise Unknown(f"unknown type {kind!r} (known: {', '.join(sorted(MODELS))})")
    try:
        message: Message = shapes.read(mapping(*MODELS[kind].keys), document)
    except Refused as error:
        raise Refused(f"{kind}: {error}") from None
    if kind == "dhcpentry" and not {"ipv4_address", "ipv6_address"} & set(message):
        raise Refused("dhcpentry: neither ipv4_address nor ipv6_address is there")
    message["type"] = kind
    return message


def strange(document: Dict[str, Any], release: str) -> List[str]:
    """Return where a message is not as a server of a release (``4.22.0``) sends it; nothing means that it is."""
    kind = document.get("type")
    model = MODELS.get(str(kind))
    if model is None:
        return [f"no server sends the type {kind!r}"]
    if shapes.version(release) < shapes.version(model.since):
        return [f"{release} does not send {kind} yet"]
    keys = model.keys if kind == "cmdline" else (*model.keys, *_ENVELOPE)
    body = {key: value for key, value in document.items() if kind != "cmdline" or key != "type"}
    return list(shapes.strange(mapping(*keys), body, release, str(kind)))
