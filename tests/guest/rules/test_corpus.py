"""Every message of the corpus, sent to a router or to the router of a VPC: all of them are taken and in force."""

import pytest

from tests.guest.rules.testbed import HERE
from tests.unit.payload.corpus import MESSAGES

OF_A_VPC = (
    "networkacl",
    "guestnetwork",
    "staticroutes",
    "site2sitevpn",
    "remoteaccessvpn",
    "vpnuserlist",
    "bgppeers",
)
GATEWAY = {
    "gateway": "172.31.0.1",
    "is_private_gateway": True,
    "vif_mac_address": "1e:00:00:00:00:09",
    "nic_dev_id": 3,
}


def of_a_vpc(message):
    return message["type"] in OF_A_VPC


def names(wanted):
    return [name for name, message in MESSAGES.items() if of_a_vpc(message) == wanted]


def refused(lab, chosen):
    """Send messages one by one; return what was said of those that are not in force."""
    found = {}
    for name in chosen:
        message = MESSAGES[name]
        fields = {key: value for key, value in message.items() if key != "type"}
        done = lab.send(message["type"], check=False, **fields)
        if (done.status, done.stderr) != (0, ""):
            found[name] = done
    return found


def with_programs(lab):
    """Give the router programs for VPNs and BGP that write down what they are asked for."""
    folders = "/usr/sbin/ipsec /usr/sbin/xl2tpd /usr/bin/vtysh /usr/lib/frr/zebra /usr/lib/frr/bgpd"
    lab.router.sh(f"for p in {folders}; do cp {HERE}/vpn.sh $p; done")


def test_a_router_takes_its_messages(lab):
    assert refused(lab, names(False)) == {}
    assert "192.0.2.20/24" in lab.router.sh("ip -o -4 address").stdout
    assert lab.router.read("/var/www/html/metadata/10.1.1.50/my key") == "v 1"


def test_the_router_of_a_vpc_takes_its_messages(vpc, make):
    with_programs(vpc)
    vpc.plug_guest("eth2", "02:00:5a:00:00:07", bridge="tier1")
    vpc.cable(vpc.new_space(), "eth0", "eth3", GATEWAY["vif_mac_address"])
    vpc.send("ips", ip_address=[make.ip("172.31.0.2", **GATEWAY)])
    tiers = [name for name in names(True) if name.startswith("gn")]
    assert refused(vpc, tiers) == {}
    assert refused(vpc, [name for name in names(True) if name not in tiers]) == {}
    routes = vpc.router.sh("ip route").stdout
    assert "172.30.0.0/16 via 10.1.1.9 dev eth2" in routes
    assert "neighbor" not in vpc.router.read("/etc/frr/frr.conf"), (
        "the last message of the corpus has no peer"
    )
    assert refused(vpc, ["bgp-v6"]) == {}
    assert "neighbor 2001:db8::1 activate" in vpc.router.read("/etc/frr/frr.conf")
    opened = "-A INPUT -s 2001:db8::1/128 -p tcp -m tcp --dport 179 -j ACCEPT"
    assert opened in vpc.router.run("ip6tables-save").stdout


def test_one_aggregate_holds_all_messages_of_a_router(lab):
    chosen = [MESSAGES[name] for name in names(False)]
    lab.aggregate(*[(message["type"], message) for message in chosen])
    lab.router.run("systemctl", "is-active", "--quiet", "haproxy.service")
    assert "balance roundrobin" in lab.router.read("/etc/haproxy/haproxy.cfg")
    # The reservation that the corpus takes back comes before the one without an IPv4 address.
    assert "2001:db8:1::50 vm1" in lab.router.read("/etc/dnsmasq-hosts.txt")


@pytest.mark.parametrize("name", ["pf-cidrs", "fw-default-egress"])
def test_a_message_is_in_force_when_its_neighbour_of_the_same_type_is_not(lab, name):
    message = MESSAGES[name]
    bad = {"rules": [{**message["rules"][0], "protocol": "quantum"}]}
    done = lab.aggregate((message["type"], bad), (message["type"], message), check=False)
    assert done.status == 1
    assert "not one of tcp" in done.stderr
    assert lab.bag({"forwardrules": "forwardingrules"}.get(message["type"], message["type"])).keys() > {"id"}
