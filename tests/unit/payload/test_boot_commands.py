"""What the boot scripts make of a command line: interfaces, routes, services, and the configuration of sshd."""

import subprocess

import pytest

from tests.unit.payload.guest import SYSTEMVM

DEBIAN = SYSTEMVM / "debian"
SETUP = DEBIAN / "opt/cloud/bin/setup"
ROUTER = {
    "type": "router", "eth0ip": "10.1.1.1", "eth0mask": "255.255.255.0", "eth1ip": "169.254.12.34",
    "eth1mask": "255.255.0.0", "eth2ip": "192.0.2.10", "eth2mask": "255.255.255.0", "gateway": "192.0.2.1",
    "privateMtu": "1450", "publicMtu": "1400",
}  # fmt: skip


def bash(script, words):
    """Run a line of a boot script on a command line; return its lines."""
    settings = " ".join(f"[{key}]={value}" for key, value in words.items())
    prelude = f"""
    set -Eeuo pipefail
    readonly SETUP_DIR={SETUP}
    declare -A CMDLINE=({settings})
    . <(sed 's/^readonly SETUP_DIR=.*//; s/^declare -gA CMDLINE.*//' "$SETUP_DIR/common.sh")
    . "$SETUP_DIR/network.sh"
    . "$SETUP_DIR/routing.sh"
    """
    done = subprocess.run(["bash", "-c", prelude + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def network(words):
    return bash("for device in $(described_devices); do device_commands $device; done; route_commands", words)


def test_a_router_gets_its_addresses_frames_and_the_way_out():
    assert network(ROUTER) == [
        "link set dev eth0 mtu 1450", "address replace 10.1.1.1/24 broadcast + dev eth0", "link set dev eth0 up",
        "address replace 169.254.12.34/16 broadcast + dev eth1", "link set dev eth1 up",
        "link set dev eth2 mtu 1400", "address replace 192.0.2.10/24 broadcast + dev eth2", "link set dev eth2 up",
        "route replace default via 192.0.2.1 dev eth2",
    ]  # fmt: skip


def test_a_router_of_a_pair_leaves_the_public_address_and_the_way_out_to_the_primary():
    found = network({**ROUTER, "redundant_router": "1"})
    assert "address replace 10.1.1.1/24 broadcast + dev eth0" in found
    assert not [line for line in found if "192.0.2." in line or line == "link set dev eth2 up"]


def test_an_interface_has_its_ipv6_address_with_its_prefix_length():
    found = network({**ROUTER, "eth0ip6": "2001:db8::1", "eth0ip6prelen": "80"})
    assert "-6 address replace 2001:db8::1/80 dev eth0" in found
    assert "-6 address replace 2001:db8::1/64 dev eth0" in network({**ROUTER, "eth0ip6": "2001:db8::1"})


def test_only_the_storage_network_of_a_storage_vm_has_large_frames():
    words = {"type": "secstorage", "eth2ip": "192.0.2.30", "eth2mask": "255.255.255.0", "eth3ip": "10.0.5.3",
             "eth3mask": "255.255.255.0", "storageip": "10.0.5.3", "mtu": "9000"}  # fmt: skip
    assert [line for line in network(words) if "mtu" in line] == ["link set dev eth3 mtu 9000"]


SERVICES = """
set_kernel() { echo "kernel $1=$2"; }
set_rp_filter() { echo "rp_filter $1"; }
write_services() { echo "on $1" | tr '\\n' ' '; echo; echo "off $2" | tr '\\n' ' '; echo; }
clear_web_defaults() { :; }
setup_routing
"""


@pytest.mark.parametrize(
    ("more", "on", "off", "path_filter"),
    [
        ({}, "dnsmasq", {"keepalived", "conntrackd"}, "1"),
        ({"redundant_router": "1"}, "keepalived", {"dnsmasq", "conntrackd"}, "1"),
        ({"disable_rp_filter": "true"}, "dnsmasq", {"keepalived", "conntrackd"}, "0"),
    ],
    ids=["alone", "one of a pair", "without the path filter"],
)
def test_a_router_forwards_and_offers_what_its_command_line_says(more, on, off, path_filter):
    found = bash(SERVICES, {**ROUTER, **more})
    assert {
        "kernel net/ipv4/ip_forward=1",
        "kernel net/ipv4/ip_nonlocal_bind=1",
        f"rp_filter {path_filter}",
    } <= set(found)
    (enabled,), (disabled,) = (
        [line.split() for line in found if line.startswith(word)] for word in ("on", "off")
    )
    assert {"haproxy", "apache2", on} <= set(enabled)
    assert off | {"cloud", "nfs-common", "portmap"} <= set(disabled)


def test_the_control_network_is_where_its_address_is():
    assert bash("control_device", ROUTER) == ["eth1"]
    assert bash("control_device", {**ROUTER, "type": "vpcrouter", "eth0ip": "169.254.1.1"}) == ["eth0"]
    assert bash("control_device", {**ROUTER, "eth1ip": "10.0.0.5"}) == ["eth1"]
    assert bash("control_device", {**ROUTER, "type": "secstorage", "eth1ip": "10.0.0.5"}) == ["eth0"]
    assert bash("control_device", {**ROUTER, "sshonguest": "true"}) == ["eth0"]


SSHD = {
    "Port": "3922", "PasswordAuthentication": "no", "ChallengeResponseAuthentication": "no", "X11Forwarding": "no",
    "PermitRootLogin": "yes", "AuthorizedKeysFile": ".ssh/authorized_keys", "UsePAM": "yes", "UseDNS": "no",
    "PrintMotd": "no", "MaxStartups": "1000", "MaxSessions": "1000",
    "Subsystem": "sftp /usr/lib/openssh/sftp-server",
}  # fmt: skip


def test_sshd_takes_keys_and_no_passwords_whichever_way_they_are_asked_for():
    """PAM asks for a password in a dialogue of its own, which the second of the two words is about."""
    lines = (DEBIAN / "etc/ssh/sshd_config").read_text().splitlines()
    rows = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    assert dict(reversed(rows)) == SSHD
