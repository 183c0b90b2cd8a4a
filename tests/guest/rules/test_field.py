"""What was reported from the field, one test a report: the number in the name is that of the report."""

import ssl
import subprocess

import pytest

from tests.guest.rules.test_traffic import VM1, ask_for_address, entry, open_egress, seen_from_outside
from tests.guest.rules.test_types import SHARED
from tests.guest.rules.testbed import HERE, ROUTER, eventually, fetch, laboratory
from tests.guest.rules.tiers import acl, add_tier, allow, tier, tier_mac, vm_in

SECOND = "02:00:26:c3:00:03"
SITE = {
    "create": True,
    "local_public_ip": "192.0.2.10",
    "local_guest_cidr": "10.20.0.0/16",
    "local_public_gateway": "192.0.2.1",
    "peer_gateway_ip": "192.0.2.77",
    "peer_guest_cidr_list": "10.5.0.0/24,10.6.0.0/24",
    "esp_policy": "aes128-sha1",
    "ike_policy": "aes128-sha1;modp1536",
    "ipsec_psk": "abc",
    "ike_version": "ikev2",
    "ike_lifetime": 86400,
    "esp_lifetime": 3600,
    "dpd": True,
    "passive": False,
    "encap": False,
    "split_connections": True,
}
REMOTE = {
    "create": True,
    "vpn_server_ip": "192.0.2.10",
    "ip_range": "10.1.2.2-10.1.2.8",
    "preshared_key": "Abc123",
    "local_ip": "10.1.2.1",
    "local_cidr": "10.1.1.0/24",
    "public_interface": "eth2",
}


def with_vpn_programs(lab):
    """Give the router programs for VPNs that do nothing."""
    lab.router.sh(
        f"for p in ipsec xl2tpd; do cp {HERE}/vpn.sh /usr/sbin/$p; done; mkdir -p /etc/xl2tpd /etc/ppp"
    )
    return lab


def vpn_asked(lab):
    text = lab.router.sh("cat /run/vpn.log; : >/run/vpn.log", check=False).stdout
    return text.splitlines()


def running(lab, unit):
    return lab.router.run("systemctl", "is-active", "--quiet", unit, check=False).status == 0


@pytest.fixture
def without_public():
    with laboratory(public=None) as lab:
        yield lab


@pytest.mark.parametrize("sources", ["", "0.0.0.0/0", "192.0.2.1/32,198.51.100.0/24"])
def test_f01_a_forwarding_with_its_sources_as_text(lab, make, get, sources):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 8000)])
    rule = {**make.forward("192.0.2.10", 8000, "10.1.1.50", 80), "source_cidr_list": sources}
    lab.send("forwardrules", rules=[rule])
    assert get(lab.outside, "http://192.0.2.10:8000/") == "vm1"


def test_f01_two_forwardings_of_one_port_by_their_sources(lab, make, get):
    first, second = lab.vm(VM1, "10.1.1.50"), lab.vm(SECOND, "10.1.1.60")
    lab.site(first, "vm1")
    lab.site(second, "vm2")
    lab.outside.sh("ip address add 192.0.2.77/24 dev eth0")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 8000)])
    one = {**make.forward("192.0.2.10", 8000, "10.1.1.50", 80), "source_cidr_list": "192.0.2.77/32"}
    other = {**make.forward("192.0.2.10", 8000, "10.1.1.60", 80), "source_cidr_list": "192.0.2.1/32"}
    lab.send("forwardrules", rules=[one])
    assert get(lab.outside, "http://192.0.2.10:8000/") is None
    lab.send("forwardrules", rules=[other])
    assert get(lab.outside, "http://192.0.2.10:8000/") == "vm2"
    assert get(lab.outside, "http://192.0.2.10:8000/", "--interface", "192.0.2.77") == "vm1"
    lab.send("forwardrules", rules=[{**other, "revoke": True}])
    assert get(lab.outside, "http://192.0.2.10:8000/") is None
    assert get(lab.outside, "http://192.0.2.10:8000/", "--interface", "192.0.2.77") == "vm1"


def certificate(folder, name, *options):
    """Make a certificate of one's own; return it and its key as text."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-days",
        "30",
        "-subj",
        f"/CN={name}.example.test",
    ]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *files, *(options or ("-nodes",))], check=True, capture_output=True)
    return cert.read_text(), key.read_text()


def tls_balancer(make, cert, key, **more):
    name = "192_0_2_10-443"
    rule = make.balancer(("192.0.2.10", 443, ["10.1.1.50:80"]))
    bind = "bind 192.0.2.10:443"
    secure = f"{bind} ssl crt /etc/cloudstack/ssl/{name}.pem alpn h2,http/1.1"
    rule["configuration"] = [line.replace(bind, secure) for line in rule["configuration"]]
    # The server writes the words of a TLS rule as one element of several lines.
    rule["configuration"].append("\n\tmode http\n\thttp-request add-header X-Forwarded-Proto https\n")
    rule["configuration"][-1], rule["configuration"][-2] = "\t ", rule["configuration"][-1].strip("\n")
    return {**rule, "ssl_certs": [{"name": name, "cert": cert, "key": key, **more}]}


def subject(lab):
    """Return the certificate that the balancer shows to the outside."""
    text = lab.outside.sh(
        "openssl s_client -connect 192.0.2.10:443 </dev/null 2>/dev/null | openssl x509 -noout -subject"
    )
    return text.stdout.strip().rpartition("= ")[2]


def test_f02_a_balancer_with_tls_answers_and_a_revoked_certificate_goes(lab, make, tmp_path):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    cert, key = certificate(tmp_path, "shop")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 443)])
    reported = tls_balancer(make, cert.replace("\n", "\r\n"), key, chain=None, password=None)
    # Nulls are what the report has; a server leaves such keys out.
    assert lab.send("loadbalancer", check=False, rules=[reported]).status == 0
    assert fetch(lab.outside, "https://192.0.2.10/", "-k") == "vm1"
    assert subject(lab) == "shop.example.test"
    assert lab.router.sh("stat --format='%a %n' /etc/cloudstack/ssl/*").stdout == (
        "600 /etc/cloudstack/ssl/192_0_2_10-443.pem\n"
    )
    newer, newer_key = certificate(tmp_path, "newer")
    lab.send("loadbalancer", rules=[tls_balancer(make, newer, newer_key)])
    assert eventually(lambda: subject(lab) == "newer.example.test")
    lab.send("loadbalancer", rules=[{**make.balancer(("192.0.2.10", 80, ["10.1.1.50:80"])), "ssl_certs": []}])
    assert lab.router.sh("ls /etc/cloudstack/ssl").stdout == ""
    assert "PRIVATE KEY" not in lab.router.read("/etc/cloudstack/loadbalancer.json")


def test_f02_a_key_with_a_password_is_opened(lab, make, tmp_path):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    cert, key = certificate(tmp_path, "shop", "-passout", "pass:s3 cret")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 443)])
    wrong = lab.send("loadbalancer", rules=[tls_balancer(make, cert, key, password="other")], check=False)
    assert wrong.status == 1
    assert "does not open with its password" in wrong.stderr
    lab.send("loadbalancer", rules=[tls_balancer(make, cert, key, password="s3 cret")])
    assert fetch(lab.outside, "https://192.0.2.10/", "-k") == "vm1"
    assert lab.router.sh("ls /run/cloud").stdout.count("ssl") == 0


def test_f02_a_broken_certificate_leaves_the_other_balancers_alone(lab, make, tmp_path):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    cert, key = certificate(tmp_path, "shop")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 443)])
    lab.send("loadbalancer", rules=[tls_balancer(make, cert, key)])
    _other, other_key = certificate(tmp_path, "other")
    done = lab.send("loadbalancer", rules=[tls_balancer(make, cert, other_key)], check=False)
    assert done.status == 1
    assert "haproxy refuses the configuration" in done.stderr
    assert fetch(lab.outside, "https://192.0.2.10/", "-k") == "vm1"
    assert ssl.PEM_cert_to_DER_cert(cert) in ssl_files(lab)


def ssl_files(lab):
    text = lab.router.read("/etc/cloudstack/ssl/192_0_2_10-443.pem")
    return [ssl.PEM_cert_to_DER_cert(text[: text.index("-----BEGIN PRIVATE")])]


def test_f03_a_second_range_of_a_shared_network_has_all_services(without_public, get, wait):
    lab = without_public
    lab.boot(SHARED)
    alias = {"revoke": False, "ip_address": "10.1.2.5", "netmask": "255.255.255.0", "count": 1}
    lab.send("ipaliases", aliases=[alias])
    subnet = {"router_ip_address": "10.1.2.5", "gateway": "10.1.2.1", "netmask": "255.255.255.0"}
    lab.send("dhcpconfig", entries=[{**subnet, "first_ip_of_subnet": "10.1.2.1"}])
    vm, old = lab.vm(VM1), lab.vm(SECOND)
    lab.send("dhcpentry", **entry(VM1, "10.1.2.50", "vm1", default_gateway="10.1.2.1"))
    lab.send("dhcpentry", **entry(SECOND, "10.1.1.60", "vm2"))
    assert "bound ip=10.1.2.50 mask=255.255.255.0 router=10.1.2.1 dns=10.1.2.5 " in ask_for_address(vm)
    assert "bound ip=10.1.1.60 mask=255.255.255.0 router=10.1.1.1 dns=10.1.1.5 " in ask_for_address(old)
    vm.sh("ip address flush dev eth0; ip address add 10.1.2.50/24 dev eth0")
    lab.send("vmdata", vm_ip_address="10.1.2.50", vm_metadata=[["metadata", "local-ipv4", "10.1.2.50"]])
    assert get(vm, "http://10.1.2.5/latest/local-ipv4") == "10.1.2.50"
    answer = vm.run("busybox", "nslookup", "vm1.cs3.cloud.internal", "10.1.2.5", check=False).stdout
    assert "10.1.2.50" in answer
    lab.send("vmpassword", ip_address="10.1.2.50", password="hunter2")
    ask = ("http://10.1.2.5:8080/", "-H", "DomU_Request: send_my_password")
    assert get(vm, *ask) == "hunter2"
    lab.send("ipaliases", aliases=[{**alias, "revoke": True}])
    assert "10.1.2.5/" not in lab.router.sh("ip -o address").stdout
    assert not running(lab, "cloud-password-server@10.1.2.5.service")
    assert "10.1.2.5" not in lab.router.sh("cat /etc/dnsmasq.d/cloud.conf; iptables-save").stdout


@pytest.mark.parametrize(
    ("parameters", "resolvers"),
    [
        ({"userouteripresolver": "true"}, "10.1.1.1"),
        ({"userouteripresolver": "true", "useextdns": "true"}, "10.1.1.1"),
        ({"useextdns": "true"}, "192.0.2.1"),
        ({}, "10.1.1.1 192.0.2.1"),
    ],
)
def test_f11_the_resolvers_that_machines_are_told_of(bare_lab, parameters, resolvers):
    bare_lab.boot({**ROUTER, **parameters})
    vm = bare_lab.vm(VM1)
    bare_lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1"))
    assert f"dns={resolvers} domain" in ask_for_address(vm)
    assert "server=192.0.2.1\n" in bare_lab.router.read("/etc/dnsmasq.d/cloud.conf")


TIER6 = {
    "router_guest_ip6": "2001:db8:1::1",
    "router_guest_ip6_gateway": "2001:db8:1::1",
    "router_guest_ip6_cidr": "2001:db8:1::/64",
    "router_ip6": "2001:db8:ff::2",
    "router_ip6_gateway": "2001:db8:ff::1",
    "router_ip6_cidr": "2001:db8:ff::/64",
}


@pytest.fixture
def tier6(vpc):
    """A VPC router whose first tier has IPv6, and a machine in it that serves a page on two ports."""
    vpc.plug_guest("eth2", tier_mac(1), bridge="tier1")
    vpc.send("guestnetwork", **tier(1), **TIER6)
    vm = vm_in(vpc, 1)
    vm.sh("ip -6 address add 2001:db8:1::50/64 dev eth0 nodad; ip -6 route add default via 2001:db8:1::1")
    vpc.outside.sh(
        "ip -6 address add 2001:db8:ff::1/64 dev eth0 nodad; ip -6 route add 2001:db8:1::/64 via 2001:db8:ff::2"
    )
    for port in (22, 80):
        vpc.stack.enter_context(
            vm.background("python3", "-m", "http.server", str(port), "--bind", "::", "--directory", "/mnt")
        )
    return vpc, vm


def test_f13_ipv6_rules_of_an_access_list_are_in_force_beside_those_of_ipv4(tier6, get):
    vpc, _vm = tier6
    both = allow("0.0.0.0/0,::/0", port=80)
    vpc.send(
        "networkacl",
        **acl(1, ingress=[allow(port=22), allow("::/0", port=22)], egress=[allow(), allow("::/0")]),
    )
    assert eventually(lambda: get(vpc.outside, "http://[2001:db8:1::50]:22/") is not None)
    assert get(vpc.outside, "http://[2001:db8:1::50]:80/") is None
    vpc.send("networkacl", **acl(1, ingress=[both]))
    assert get(vpc.outside, "http://[2001:db8:1::50]:80/") is not None
    assert get(vpc.outside, "http://[2001:db8:1::50]:22/") is None
    rules = vpc.router.run("iptables-save").stdout
    assert "-A ACL_INBOUND_eth2 -p tcp -m tcp --dport 80 -j ACCEPT" in rules
    denied = {
        "type": "tcp",
        "first_port": 80,
        "last_port": 80,
        "cidr": "2001:db8:ff::1/128",
        "allowed": False,
    }
    vpc.send("networkacl", **acl(1, ingress=[denied, both]))
    assert get(vpc.outside, "http://[2001:db8:1::50]:80/") is None


def test_f13_what_leaves_a_tier_by_ipv6_is_what_its_list_allows(tier6, get):
    vpc, vm = tier6
    vpc.stack.enter_context(
        vpc.outside.background("python3", "-m", "http.server", "8000", "--bind", "::", "--directory", "/mnt")
    )
    vpc.send("networkacl", **acl(1, egress=[allow()]))
    assert eventually(lambda: get(vpc.outside, "http://[::1]:8000/") is not None)
    assert get(vm, "http://[2001:db8:ff::1]:8000/") is None
    vpc.send("networkacl", **acl(1, egress=[allow("::/0", port=8000)]))
    assert get(vm, "http://[2001:db8:ff::1]:8000/") is not None


def test_f13_a_removed_tier_takes_its_ipv6_along(tier6):
    vpc, _vm = tier6
    vpc.send("guestnetwork", **{**tier(1, add=False), **TIER6})
    assert "2001:db8" not in vpc.router.sh("ip -6 -o address; ip -6 route; ip6tables-save").stdout


def test_f23_the_last_vpn_user_is_removed(lab):
    with_vpn_programs(lab).send("remoteaccessvpn", **REMOTE)
    users = [{"user": "ann", "password": 'sec"r\\et', "add": True}]
    lab.send("vpnuserlist", vpn_users=users)
    assert lab.router.read("/etc/ppp/chap-secrets") == '"ann" * "sec\\"r\\\\et" *\n'
    lab.asked()
    lab.send("vpnuserlist", vpn_users=[{"user": "ann", "password": "x", "add": False}])
    assert lab.router.read("/etc/ppp/chap-secrets") == ""
    assert lab.asked() == ["restart xl2tpd.service"]
    assert lab.bag("vpnuserlist") == {"id": "vpnuserlist"}


def test_f23_a_removed_vpn_leaves_no_secret_and_no_opening(lab):
    before = lab.router.run("iptables-save").stdout.count("4500")
    with_vpn_programs(lab).send(
        "vpnuserlist", vpn_users=[{"user": "ann", "password": "secret1", "add": True}]
    )
    lab.send("remoteaccessvpn", **REMOTE)
    assert running(lab, "xl2tpd.service")
    lab.send("vpnuserlist", vpn_users=[{"user": "ann", "password": "secret1", "add": False}])
    vpn_asked(lab)
    lab.send("remoteaccessvpn", **{**REMOTE, "create": False})
    left = lab.router.sh(
        "grep -rl -e Abc123 -e secret1 -e L2TP /etc/ipsec.d /etc/xl2tpd /etc/ppp || true"
    ).stdout
    assert left == ""
    assert not running(lab, "xl2tpd.service")
    assert vpn_asked(lab) == ["ipsec down L2TP-PSK", "ipsec rereadsecrets", "ipsec update"]
    assert lab.router.run("iptables-save").stdout.count("4500") == before


def test_f22_another_range_for_the_vpn(lab):
    with_vpn_programs(lab).send("remoteaccessvpn", **REMOTE)
    lab.send("remoteaccessvpn", **{**REMOTE, "create": False})
    lab.send("remoteaccessvpn", **{**REMOTE, "ip_range": "10.1.3.2-10.1.3.8", "local_ip": "10.1.3.1"})
    assert "ip range = 10.1.3.2-10.1.3.8" in lab.router.read("/etc/xl2tpd/xl2tpd.conf")


def test_f24_a_tier_that_comes_back_on_another_interface_moves_there(vpc, get):
    add_tier(vpc, 1, ingress=[allow()])
    vpc.router.sh("ip link set eth2 down; ip link set eth2 name eth5")
    vpc.send("guestnetwork", **{**tier(1), "device": "eth5"})
    assert "inet 10.20.1.1/24" in vpc.router.sh("ip -o -4 address show dev eth5").stdout
    assert list(vpc.bag("guestnetwork")) == ["eth5", "id"]
    assert "-o eth5 -j ACL_INBOUND_eth5" in vpc.router.run("iptables-save").stdout
    assert "-A ACL_INBOUND_eth5 -j ACCEPT" in vpc.router.run("iptables-save").stdout
    vpc.send("guestnetwork", **{**tier(1, add=False), "device": "eth5"})
    assert "10.20.1.1" not in vpc.router.sh("ip -o -4 address; iptables-save").stdout


def test_f24_another_message_finds_the_tier_where_it_is_now(vpc):
    add_tier(vpc, 1, ingress=[allow()])
    vpc.router.sh("ip link set eth2 down; ip link set eth2 name eth5")
    vpc.send("staticroutes", routes=[])
    assert "inet 10.20.1.1/24" in vpc.router.sh("ip -o -4 address show dev eth5").stdout


def test_f24_an_interface_that_is_gone_does_not_freeze_the_others(vpc, make, get):
    add_tier(vpc, 1, ingress=[allow()], egress=[allow()])
    add_tier(vpc, 2, ingress=[allow()], egress=[allow()])
    vpc.site(vm_in(vpc, 1), "tier one")
    vpc.router.sh("ip link delete eth3")
    vpc.send("forwardrules", rules=[make.forward("192.0.2.10", 8000, "10.20.1.50", 80)])
    assert get(vpc.outside, "http://192.0.2.10:8000/") == "tier one"
    again = vpc.send("guestnetwork", check=False, **tier(2))
    assert again.status == 1
    assert "no interface eth3 is plugged" in again.stderr


def test_f27_a_routed_network_is_not_translated_and_lets_in_what_its_firewall_allows(bare_lab, make, get):
    lab = bare_lab
    lab.boot({**ROUTER, "is_routed": "true"})
    lab.outside.sh("ip route add 10.1.1.0/24 via 192.0.2.10")
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    open_egress(lab, make)
    assert seen_from_outside(lab, vm) == "10.1.1.50"
    assert get(lab.outside, "http://10.1.1.50/") is None
    rule = make.firewall(5, "", 80)
    del rule["src_ip"]
    lab.send("firewallrules", rules=[rule])
    assert get(lab.outside, "http://10.1.1.50/") == "vm1"
    lab.send("firewallrules", rules=[{**rule, "revoked": True}])
    assert get(lab.outside, "http://10.1.1.50/") is None


def test_f28_the_data_server_of_a_machine_is_that_of_its_own_tier(vpc):
    for number in (1, 2):
        add_tier(vpc, number, ingress=[allow()], egress=[allow()])
    for number in (1, 2):
        vm, server = vm_in(vpc, number), f"10.20.{number}.1"
        for name in ("data-server", "data-server.cs2.cloud.internal"):
            answers = resolve(vm, name, server)
            assert answers == [server], name


def resolve(vm, name, server):
    """Return the addresses of a name that a server answers."""
    text = vm.run("busybox", "nslookup", name, server, check=False).stdout
    lines = text.partition("Name:")[2].splitlines()
    return [line.split()[-1] for line in lines if line.startswith("Address")]


def test_f42_a_vpn_whose_daemon_is_down_comes_back(vpc):
    unit = "strongswan-starter.service"
    with_vpn_programs(vpc).send("site2sitevpn", **SITE)
    assert running(vpc, unit)
    vpc.router.run("systemctl", "stop", unit)
    vpc.send("site2sitevpn", **SITE)
    assert running(vpc, unit)
    vpc.router.run("systemctl", "stop", unit)
    vpc.router.run("/opt/cloud/bin/configure.py")
    assert running(vpc, unit)


def test_f42_a_removed_connection_leaves_nothing(vpc):
    with_vpn_programs(vpc).send("site2sitevpn", **SITE)
    vpn_asked(vpc)
    vpc.send("site2sitevpn", **{**SITE, "create": False})
    assert vpn_asked(vpc)[0] == "ipsec down vpn-192.0.2.77"
    assert vpc.router.sh("ls /etc/ipsec.d/ipsec.vpn-* 2>/dev/null || true").stdout == ""
    vpc.send("site2sitevpn", **{**SITE, "peer_gateway_ip": "192.0.2.99", "create": False})
    assert vpc.bag("site2sitevpn") == {"id": "site2sitevpn"}
