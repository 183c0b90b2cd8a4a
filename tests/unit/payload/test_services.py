"""What the configuration of each service says: the values that management sent, and those that keep tenants apart."""

import pytest

from tests.unit.payload import corpus, guest


def blocks(text, starts):
    """Return the settings below each line that begins with a word: ``{line: {key: value}}``."""
    found, settings = {}, {}
    for line in text.splitlines():
        if line.startswith(starts):
            settings = found.setdefault(line, {})
        elif "=" in line:
            key, _, value = line.strip().partition("=")
            settings[key.strip()] = value.strip()
    return found


def keepalived(**parameters):
    topology = guest.state(guest.command_line(**{**guest.REDUNDANT["cmd_line"], **parameters})).topology
    return [
        line.strip() for line in guest.module("parts.redundancy").render_keepalived(topology).splitlines()
    ]


@pytest.mark.parametrize("first", ["PRIMARY", "MASTER"])
def test_the_two_routers_of_a_pair_differ_in_nothing_but_their_priority(first):
    one, other = keepalived(redundant_state=first), keepalived(redundant_state="BACKUP")
    (higher,), (lower,) = (
        [line for line in found if line not in rest] for found, rest in ((one, other), (other, one))
    )
    assert higher.split()[0] == lower.split()[0] == "priority"
    assert int(higher.split()[1]) > int(lower.split()[1])


def test_a_pair_knows_itself_by_number_and_password():
    lines = keepalived(router_id="300", router_password="abcdefghij", advert_int="3")
    assert {"virtual_router_id 45", "auth_type PASS", "auth_pass abcdefgh", "advert_int 3"} <= set(lines)
    assert "virtual_router_id 51" in keepalived(router_id="255")
    assert "10.1.1.1/24 brd 10.1.1.255 dev eth0" in lines
    assert {"nopreempt", "state BACKUP", "interface eth0"} <= set(lines)
    roles = {line.split()[0]: line.split()[-1].strip('"') for line in lines if line.startswith("notify_")}
    assert roles == {
        "notify_master": "primary", "notify_backup": "backup", "notify_fault": "fault", "notify_stop": "fault",
    }  # fmt: skip


def test_flows_go_to_the_other_router_over_the_guest_network_and_those_of_the_router_itself_stay():
    text = guest.module("parts.redundancy").render_conntrackd(guest.state(guest.REDUNDANT).topology)
    lines = [line.strip() for line in text.splitlines()]
    assert {"Interface eth0", "IPv4_interface 10.1.1.11", "IPv4_address 225.0.0.50"} <= set(lines)
    ignored = lines[lines.index("Address Ignore {") + 1 : -3]
    assert {"IPv4_address 127.0.0.1", "IPv4_address 192.0.2.10", "IPv4_address 169.254.12.34"} <= set(ignored)


def site(**more):
    return blocks(guest.module("parts.ipsec").render_site({**guest.SITE_VPN, **more}), "conn")


def test_a_connection_of_two_sites_says_what_the_message_says():
    assert site(split_connections=False) == {
        "conn vpn-203.0.113.7": {
            "left": "192.0.2.10", "leftsubnet": "10.1.1.0/24", "right": "203.0.113.7",
            "rightsubnet": "10.9.0.0/16,10.8.0.0/16", "type": "tunnel", "authby": "secret", "keyexchange": "ikev2",
            "ike": "aes128-sha1-modp1536", "ikelifetime": "86400s", "esp": "aes128-sha1", "lifetime": "3600s",
            "keyingtries": "%forever", "forceencaps": "no", "dpddelay": "30", "dpdtimeout": "120",
            "dpdaction": "restart", "auto": "start",
        }
    }  # fmt: skip
    (other,) = site(split_connections=False, dpd=False, passive=True, encap=True, ike_version="ike",
                    ike_lifetime=60, esp_lifetime=90).values()  # fmt: skip
    changed = ("dpdaction", "auto", "forceencaps", "keyexchange", "ikelifetime", "lifetime")
    assert [other[key] for key in changed] == ["none", "add", "yes", "ike", "60s", "90s"]
    found = {name: settings["rightsubnet"] for name, settings in site(split_connections=True).items()}
    assert found == {"conn vpn-203.0.113.7": "10.9.0.0/16", "conn vpn-203.0.113.7-2": "10.8.0.0/16"}


def test_secrets_of_vpns_name_both_ends_or_the_server():
    ipsec = guest.module("parts.ipsec")
    assert ipsec.render_site_secret(guest.SITE_VPN) == '192.0.2.10 203.0.113.7 : PSK "s3cret"\n'
    files = {path.name: text for path, text in ipsec.render_remote_access(guest.REMOTE_VPN).items()}
    assert files["ipsec.any.secrets"] == '192.0.2.10 %any : PSK "s3cret"\n'


def test_a_login_to_the_vpn_has_its_own_range_and_no_password_in_the_clear():
    files = {
        path.name: text
        for path, text in guest.module("parts.ipsec").render_remote_access(guest.REMOTE_VPN).items()
    }
    (connection,) = blocks(files["l2tp.conf"], "conn").values()
    assert connection == {
        "authby": "secret", "keyexchange": "ikev1", "rekey": "no", "type": "transport", "left": "192.0.2.10",
        "leftprotoport": "17/1701", "right": "%any", "rightprotoport": "17/%any", "auto": "add",
    }  # fmt: skip
    (server,) = blocks(files["xl2tpd.conf"], "[").values()
    assert server == {
        "ip range": "10.1.2.2-10.1.2.8", "local ip": "10.1.2.1", "require chap": "yes", "refuse pap": "yes",
        "length bit": "yes", "pppoptfile": "/etc/ppp/options.xl2tpd",
    }  # fmt: skip
    options = files["options.xl2tpd"].splitlines()
    assert {"require-mschap-v2", "ms-dns 10.1.2.1", "mtu 1410", "mru 1410", "proxyarp", "noccp"} <= set(
        options
    )


def dnsmasq(*documents):
    return guest.module("parts.dhcp").render_config(guest.state(*documents).topology).splitlines()


def test_machines_are_told_what_the_command_line_says_of_their_network():
    lines = dnsmasq(guest.SHARED)
    for option in ("15,cs3.cloud.internal", "119,cs3.cloud.internal,example.org", "6,192.0.2.53", "3,10.30.0.1",
                   "1,255.255.255.0"):  # fmt: skip
        assert f"dhcp-option=tag:interface-eth0-0,{option}" in lines
    assert "dhcp-range=set:interface-eth0-0,10.30.0.1,static,255.255.255.0" in lines


def test_the_dns_of_a_router_answers_for_its_networks_alone():
    lines = dnsmasq(guest.ROUTER)
    assert {"no-hosts", "no-resolv", "domain-needed", "bogus-priv", "local=/cs1.cloud.internal/"} <= set(
        lines
    )
    assert "listen-address=127.0.0.1,10.1.1.1" in lines
    assert [line for line in lines if line.startswith("server=")] == ["server=192.0.2.53"]


def test_a_router_does_not_ask_itself_for_names():
    config = guest.command_line(**{**guest.ROUTER["cmd_line"], "dns1": "10.1.1.1", "dns2": "192.0.2.54"})
    assert [line for line in dnsmasq(config) if line.startswith("server=")] == ["server=192.0.2.54"]


def test_a_machine_of_the_second_range_has_a_lease_that_never_ends_and_its_own_gateway():
    alias = {"revoke": False, "ip_address": "10.30.1.5", "netmask": "255.255.255.0", "count": 1}
    entry = {**guest.DHCP[0], "ipv4_address": "10.30.1.50", "default_gateway": "10.30.1.1"}
    state = guest.state(guest.SHARED, {"type": "ipaliases", "aliases": [alias]}, entry)
    dhcp = guest.module("parts.dhcp")
    assert dhcp.render_hosts(state) == "02:00:26:c3:00:02,set:10_30_1_50,10.30.1.50,vm1,infinite\n"
    assert dhcp.render_options(state) == "tag:10_30_1_50,3,10.30.1.1\n"


def test_a_word_that_haproxy_no_longer_knows_is_said_as_it_is_said_today():
    (row,) = guest.BALANCER["rules"]
    old = {**row, "configuration": ["defaults", "\toption forceclose", *row["configuration"]]}
    state = guest.state(guest.ROUTER, {**guest.BALANCER, "rules": [old]})
    lines = guest.module("parts.haproxy").render(state).splitlines()
    assert lines[:2] == ["defaults", "\toption httpclose"]
    assert "forceclose" not in "".join(lines)


def test_metadata_that_is_null_is_an_empty_file_and_an_empty_text_is_none():
    rows = [
        ["metadata", "public-keys", None],
        ["metadata", "cloud-identifier", ""],
        ["userdata", "user-data", "YQ"],
    ]
    files = guest.module("parts.web").render_vm("10.1.1.50", rows)
    assert files["metadata/10.1.1.50/public-keys"] == b""
    assert "metadata/10.1.1.50/cloud-identifier" not in files
    assert files["userdata/10.1.1.50/user-data"] == b"a"
    assert files["userdata/10.1.1.50/.htaccess"] == b"Require ip 10.1.1.50\n"


def test_the_password_of_a_machine_is_its_own_and_waits_in_a_file_that_nobody_else_reads(
    tmp_path, monkeypatch
):
    passwords = guest.module("passwordfile")
    monkeypatch.setattr(passwords, "FOLDER", tmp_path)
    assert passwords.put("10.1.1.1", "10.1.1.50", "mine") is True
    passwords.put("10.1.1.1", "10.1.1.60", "yours")
    assert passwords.get("10.1.1.1", "10.1.1.50") == "mine"
    assert passwords.get("10.1.1.1", "10.1.1.5") is None
    assert passwords.get("10.1.2.1", "10.1.1.50") is None
    assert passwords.path_of("10.1.1.1").stat().st_mode & 0o777 == 0o600
    passwords.remove("10.1.1.1", "10.1.1.50")
    assert passwords.get("10.1.1.1", "10.1.1.50") is None
    assert passwords.get("10.1.1.1", "10.1.1.60") == "yours"


TIER6 = {**corpus.MESSAGES["gn-v6"], "mac_address": "02:00:00:00:20:01"}


def test_a_network_is_advertised_by_the_router_that_is_its_gateway_alone():
    radvd = guest.module("parts.radvd")
    lines = [
        line.strip()
        for line in radvd.render(guest.state(guest.VPC, guest.VPC_PUBLIC, TIER6).topology).splitlines()
    ]
    assert f"prefix {TIER6['router_guest_ip6_cidr']}" in lines
    assert {"AdvSendAdvert on;", "AdvOnLink on;", "AdvAutonomous on;", f"interface {TIER6['device']}"} <= set(
        lines
    )
    assert "RDNSS {} {{ }};".format(TIER6["dns6"].replace(",", " ")) in lines
    other = {**TIER6, "router_guest_ip6_gateway": "2001:db8:1::fe"}
    assert radvd.advertised(guest.state(guest.VPC, guest.VPC_PUBLIC, other).topology) == []


def test_a_peer_is_told_the_prefixes_of_the_networks_and_met_as_the_message_says():
    row = {**corpus.MESSAGES["bgp"]["peers"][0], "details": {"EBGP_MultiHop": "2"}, "peer_password": "s3"}
    text = guest.module("parts.bgp").render("r-10-VM", {"3-204": row}, "192.0.2.10")
    lines = [line.strip() for line in text.splitlines()]
    peer = row["ip4_address"]
    assert {
        f"router bgp {row['network_as_number']}", "bgp router-id 192.0.2.10",
        f"neighbor {peer} remote-as {row['peer_as_number']}", f"neighbor {peer} password s3",
        f"neighbor {peer} ebgp-multihop 2", f"network {row['guest_ip4_cidr']}",
    } <= set(lines)  # fmt: skip
    named = guest.command_line(**guest.VPC["cmd_line"], source_nat_ip="192.0.2.99")
    assert guest.module("parts.bgp").router_id(guest.state(named).topology) == "192.0.2.99"


def test_checks_run_as_often_as_management_says_and_not_at_all_when_it_says_so():
    cron = guest.module("parts.monitor").render_cron
    rows = [line for line in cron(guest.MONITOR).splitlines() if line.endswith(("basic", "advanced"))]
    assert rows == [
        "*/3 * * * * root /root/monitorServices.py basic",
        "0 */2 * * * root /root/monitorServices.py advanced",
    ]
    for off in (
        {"health_checks_enabled": False},
        {f"health_checks_{kind}_run_interval": 0 for kind in ("basic", "advanced")},
    ):
        assert "monitorServices" not in cron({**guest.MONITOR, **off})


# What strongSwan answers of a router with both kinds of VPN.
STATUS = """\
Status of IKE charon daemon (strongSwan 5.9.8, Linux 6.1.0, x86_64):
  uptime: 11 seconds, since Nov 27 10:24:12 2026
Connections:
    L2TP-PSK:  192.0.2.10...%any  IKEv1
    L2TP-PSK:   child:  dynamic[udp/l2f] === dynamic[udp] TRANSPORT
vpn-203.0.113.7:  192.0.2.10...203.0.113.7  IKEv2, dpddelay=30s
vpn-203.0.113.7:   child:  10.1.1.0/24 === 10.9.0.0/16 TUNNEL, dpdaction=start
vpn-203.0.113.7-2:   child:  10.1.1.0/24 === 10.8.0.0/16 TUNNEL, dpdaction=start
"""


@pytest.mark.parametrize(
    ("part", "documents", "unit"),
    [
        ("redundancy", [guest.REDUNDANT, guest.PUBLIC_IP], "keepalived"),
        ("radvd", [guest.VPC, guest.VPC_PUBLIC, TIER6], "radvd"),
        ("bgp", [guest.ROUTER, guest.PEERS], "frr"),
        ("ipsec", [guest.ROUTER, guest.SITE_VPN], "strongswan-starter.service"),
    ],
)
def test_a_message_is_not_in_force_while_the_daemon_that_it_needs_does_not_run(
    part, documents, unit, monkeypatch
):
    system, errors = guest.module("system"), guest.module("errors")
    state = guest.state(*documents)
    # The first of the messages is the command line, which has its own moment.
    state = state._replace(messages=state.messages[1:])
    monkeypatch.setattr(system, "installed", lambda _program: True)
    monkeypatch.setattr(system, "run", lambda _command: STATUS)
    for runs in (True, False):
        monkeypatch.setattr(system, "unit_active", lambda _unit, runs=runs: runs)
        prove = guest.module(f"parts.{part}").prove
        if runs:
            prove(state)
        else:
            with pytest.raises(errors.Failed, match=f"{unit} does not run"):
                prove(state)


@pytest.mark.parametrize(
    ("status", "missing"),
    [
        (STATUS, ""),
        (STATUS.replace("vpn-203.0.113.7:", "vpn-203.0.113.70:"), "vpn-203.0.113.7"),
        (STATUS.replace("7-2:", "7-3:"), "vpn-203.0.113.7-2"),
        (STATUS.replace("L2TP-PSK", "L2TP"), "L2TP-PSK"),
        ("", "L2TP-PSK and vpn-203.0.113.7 and vpn-203.0.113.7-2"),
        (None, "L2TP-PSK and vpn-203.0.113.7 and vpn-203.0.113.7-2"),
    ],
)
def test_a_vpn_is_in_force_when_strongswan_has_its_connection(status, missing, monkeypatch):
    system, ipsec, errors = guest.module("system"), guest.module("parts.ipsec"), guest.module("errors")

    def run(command):
        assert command == ["ipsec", "statusall"]
        if status is None:
            raise errors.Failed("ipsec statusall ended with status 3: no message")
        return status

    monkeypatch.setattr(system, "unit_active", lambda _unit: True)
    monkeypatch.setattr(system, "run", run)
    monkeypatch.setattr(ipsec, "READY_SECONDS", 0.0)
    state = guest.state(guest.ROUTER, guest.SITE_VPN, guest.REMOTE_VPN)
    if missing:
        with pytest.raises(errors.Failed, match=f"strongSwan has no connection {missing}$"):
            ipsec.prove(state)
    else:
        ipsec.prove(state)


def test_strongswan_is_led_to_the_files_of_the_vpns_and_what_others_wrote_stays(tmp_path, monkeypatch):
    ipsec = guest.module("parts.ipsec")
    paths = {tmp_path / path.name: line for path, line in ipsec.INCLUDES.items()}
    monkeypatch.setattr(ipsec, "INCLUDES", paths)
    conf, secrets = paths
    conf.write_text("config setup\n    uniqueids = no\n")
    assert ipsec.with_includes() == {
        conf: "config setup\n    uniqueids = no\n\ninclude /etc/ipsec.d/*.conf\n",
        secrets: "include /etc/ipsec.d/ipsec.*.secrets\n",
    }
    for path, text in ipsec.with_includes().items():
        path.write_text(text)
    assert ipsec.with_includes() == {path: path.read_text() for path in paths}


def network(*documents, primary=True):
    state = guest.state(*documents, primary=primary)
    return guest.module("parts.routes").wanted(state), guest.module("parts.routes").rules(state.topology)


def test_each_public_interface_has_a_table_of_its_own_that_its_marked_packets_use():
    routes, policy = network(guest.VPC, guest.VPC_PUBLIC, guest.PUBLIC_IP, guest.TIER)
    assert routes[0] == "default via 198.51.100.1 dev eth1"
    assert {"default via 198.51.100.1 dev eth1 table 101", "throw 10.20.1.0/24 table 101",
            "throw 169.254.0.0/16 table 101", "throw 198.51.100.0/24 table 101"} <= set(routes)  # fmt: skip
    assert policy == ["fwmark 0x65 lookup 101"] or policy == [
        "fwmark 0x65 lookup 101",
        "fwmark 0x66 lookup 102",
    ]


def test_a_vpc_router_that_is_no_gateway_leaves_through_the_tier_of_the_lowest_number():
    config = guest.command_line(**{**guest.VPC["cmd_line"], "has_public_network": "false"})
    first = {
        **guest.TIER,
        "router_guest_gateway": "10.20.1.254",
        "is_vr_guest_gateway": False,
        "network_id": 9,
    }
    second = {**first, "mac_address": "02:00:00:00:20:02", "device": "eth3", "router_guest_ip": "10.20.2.1",
              "router_guest_gateway": "10.20.2.254", "network_id": 7}  # fmt: skip
    assert network(config, first, second)[0] == ["default via 10.20.2.254 dev eth3"]
    assert network(guest.VPC, first, second)[0] == []


def test_a_static_route_leaves_by_the_interface_that_its_gateway_is_on():
    routes, _policy = network(guest.VPC, guest.VPC_PUBLIC, guest.TIER, guest.STATIC_ROUTE)
    assert "172.30.0.0/16 via 10.20.1.9 dev eth2" in routes
