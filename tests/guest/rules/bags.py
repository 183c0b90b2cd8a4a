"""Messages as management writes them: what a test leaves out is as in the corpus, and all of it has that shape."""

from __future__ import annotations

from typing import Any

from tests.unit.payload import corpus, guest

RELEASE = "4.22.0"
# The message of each type whose values stand in for what a test does not care about.
_EXAMPLES = {corpus.MESSAGES[name]["type"]: corpus.MESSAGES[name] for name in (
    "ips", "fw-ingress", "fw6", "pf-empty-cidrs", "snat", "lb-4.22", "dhcp", "vmdata", "vmpassword", "vpnusers",
    "ravpn", "s2s", "routes", "monitor-refresh", "acl", "gn", "bgp", "aliases", "dhcpconfig",
)}  # fmt: skip


def message(kind: str, fields: dict[str, Any], checked: bool = True) -> dict[str, Any]:
    """Return a message with everything that a server always sends.

    With ``checked``, a key or a type that no server sends fails the test.
    """
    messages = guest.module("messages")
    if kind == "cmdline" or kind not in messages.MODELS:
        return {"type": kind, **fields}
    keys = messages.MODELS[kind].keys
    whole = {**_filled(keys, fields, _EXAMPLES[kind]), "type": kind}
    whole.setdefault("delete_from_processed_cache", False)
    strange = messages.strange(whole, RELEASE) if checked else []
    assert strange == [], f"no server of {RELEASE} sends this"
    return whole


def _filled(keys: Any, value: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    found = dict(value)
    for key in keys:
        if key.name not in found and key.presence != "maybe" and key.name in example:
            found[key.name] = example[key.name]
        member = key.shape.member
        if (
            isinstance(found.get(key.name), list)
            and member is not None
            and member.keys
            and example.get(key.name)
        ):
            sample = example[key.name][0]
            found[key.name] = [
                _filled(member.keys, row, sample) if isinstance(row, dict) else row for row in found[key.name]
            ]
    return found


def firewall_rule(number: int, address: str, port: int, **more) -> dict:
    """Return an ingress rule that opens a TCP port of a public address."""
    return {
        "id": number,
        "src_ip": address,
        "protocol": "tcp",
        "src_port_range": [port, port],
        "revoked": False,
        "already_added": False,
        "source_cidr_list": ["0.0.0.0/0"],
        "dest_cidr_list": [],
        "purpose": "Firewall",
        "traffic_type": "Ingress",
        "default_egress_policy": False,
        **more,
    }


def forward_rule(
    address: str, port: int, vm: str, inner: int, protocol: str = "tcp", revoke: bool = False
) -> dict:
    """Return a port-forwarding rule."""
    return {
        "revoke": revoke,
        "protocol": protocol,
        "source_ip_address": address,
        "source_port_range": f"{port}:{port}",
        "destination_ip_address": vm,
        "destination_port_range": f"{inner}:{inner}",
    }


def public_ip(address: str, **more) -> dict:
    """Return an association of a public address with eth2."""
    return {
        "public_ip": address,
        "source_nat": False,
        "add": True,
        "one_to_one_nat": False,
        "first_i_p": False,
        "gateway": "192.0.2.1",
        "netmask": "255.255.255.0",
        "vif_mac_address": "1e:00:00:00:00:02",
        "nic_dev_id": 2,
        "new_nic": False,
        "nw_type": "Public",
        "is_private_gateway": False,
        "mtu": 1500,
        **more,
    }


def balancer(*listeners: tuple[str, int, list[str]]) -> dict:
    """Return a load-balancer rule as management writes it: address, port and the servers behind it."""
    lines = [
        "global",
        "\tlog 127.0.0.1:3914   local0 warning",
        "\tmaxconn 4096",
        "\tmaxpipes 1024",
        "\tchroot /var/lib/haproxy",
        "\tuser haproxy",
        "\tgroup haproxy",
        "\tstats socket /run/haproxy/admin.sock",
        "\tdaemon",
        " ",
        "defaults",
        "\tlog     global",
        "\tmode    tcp",
        "\toption  dontlognull",
        "\tretries 3",
        "\toption redispatch",
        "\ttimeout connect    5000",
        "\ttimeout client     50000",
        "\ttimeout server     50000",
        " ",
    ]
    for address, port, servers in listeners:
        name = f"{address.replace('.', '_')}-{port}"
        lines += [f"listen {name}", f"\tbind {address}:{port}", "\tbalance roundrobin"]
        lines += [f"\tserver {name}_{number} {server} check" for number, server in enumerate(servers)]
        lines.append(" ")
    return {
        "configuration": lines,
        "tmp_cfg_file_path": "/etc/haproxy/",
        "tmp_cfg_file_name": "haproxy.cfg.new",
        "add_rules": [f"{address}:{port}:" for address, port, _servers in listeners],
        "remove_rules": [],
        "stat_rules": ["169.254.12.34:8081:0/0:,"],
        "router_ip": "169.254.12.34",
        "ssl_certs": [],
    }
