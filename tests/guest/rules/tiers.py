"""The tiers of a VPC: their messages, and their cables in the laboratory."""

from __future__ import annotations

VPC = {
    "type": "vpcrouter",
    "name": "r-20-VM",
    "vpccidr": "10.20.0.0/16",
    "domain": "cs2.cloud.internal",
    "dns1": "192.0.2.53",
    "eth0ip": "169.254.12.34",
    "eth0mask": "255.255.0.0",
    "has_public_network": "true",
}
ANY = "0.0.0.0/0"
PUBLIC_MAC, GATEWAY_MAC = "1e:00:00:00:00:02", "1e:00:00:00:00:09"
DENY = {"type": "all", "cidr": ANY, "allowed": False}
ABOUT_GATEWAY = {
    "device": "eth3",
    "mac_address": GATEWAY_MAC,
    "private_gateway_acl": True,
    "nic_ip": "172.31.0.1",
    "nic_netmask": "24",
}


def tier_mac(number):
    return f"02:00:00:00:20:{number:02x}"


def tier(number, add=True):
    """Return the message of the tier 10.20.<number>.0/24."""
    return {
        "add": add,
        "mac_address": tier_mac(number),
        "device": f"eth{number + 1}",
        "router_guest_ip": f"10.20.{number}.1",
        "router_guest_netmask": "255.255.255.0",
        "router_guest_gateway": f"10.20.{number}.1",
        "cidr": "24",
        "dns": f"10.20.{number}.1",
        "domain_name": "cs2.cloud.internal",
        "is_vr_guest_gateway": True,
        "mtu": 1500,
    }


def allow(cidr=ANY, port=None):
    if port is None:
        return {"type": "all", "cidr": cidr, "allowed": True}
    return {"type": "tcp", "first_port": port, "last_port": port, "cidr": cidr, "allowed": True}


def acl(number, ingress=(), egress=()):
    return {
        "device": f"eth{number + 1}",
        "mac_address": tier_mac(number),
        "private_gateway_acl": False,
        "nic_ip": f"10.20.{number}.1",
        "nic_netmask": "24",
        "ingress_rules": list(ingress),
        "egress_rules": list(egress),
    }


def add_tier(lab, number, **rules):
    lab.plug_guest(f"eth{number + 1}", tier_mac(number), bridge=f"tier{number}")
    lab.send("guestnetwork", **tier(number))
    lab.send("networkacl", **acl(number, **rules))


def vm_in(lab, number, host=50):
    mac = f"02:00:00:01:{number:02x}:{host:02x}"
    return lab.vm(mac, f"10.20.{number}.{host}", bridge=f"tier{number}", gateway=f"10.20.{number}.1")
