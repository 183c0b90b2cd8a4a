"""How rules are applied: each message whole or not at all, once and no more, and never in silence."""

import json
import subprocess

import pytest

from tests.guest.rules.testbed import eventually

VM = "02:00:26:c3:00:02"


def everything(lab):
    """Return what rules change: databags, files, packet filter, addresses, routes."""
    return lab.router.sh(
        "cd /; sha256sum etc/cloudstack/* etc/haproxy/haproxy.cfg etc/dnsmasq.d/* etc/dhcp*.txt etc/iptables/rules.v4;"
        "find var/www/html etc/apache2/sites-enabled -type f | sort | xargs sha256sum;"
        "iptables-save | grep -v '^#' | sed 's/\\[.*//';"
        "ip -o address | grep -v fe80; ip -4 route show table all; ip rule"
    ).stdout


def full_set(make):
    """Return one message of every common type."""
    vm = "10.1.1.50"
    return [
        ("ips", {"ip_address": [make.ip("192.0.2.20"), make.ip("192.0.2.30")]}),
        (
            "staticnatrules",
            {
                "rules": [
                    {
                        "revoke": False,
                        "source_ip_address": "192.0.2.20",
                        "destination_ip_address": "10.1.1.60",
                    }
                ]
            },
        ),
        (
            "firewallrules",
            {"rules": [make.firewall(5, "192.0.2.10", 80), make.firewall(6, "192.0.2.20", 80)]},
        ),
        ("forwardrules", {"rules": [make.forward("192.0.2.10", 2222, vm, 22)]}),
        ("loadbalancer", {"rules": [make.balancer(("192.0.2.10", 80, [f"{vm}:80"]))]}),
        (
            "dhcpentry",
            {"mac_address": VM, "ipv4_address": vm, "host_name": "vm1", "default_gateway": "10.1.1.1"},
        ),
        ("vmdata", {"vm_ip_address": vm, "vm_metadata": [["metadata", "local-ipv4", vm]]}),
        ("staticroutes", {"routes": [{"revoke": False, "gateway": "10.1.1.9", "network": "172.30.0.0/16"}]}),
    ]


def test_applying_twice_changes_nothing_and_touches_no_service(lab, make):
    lab.aggregate(*full_set(make))
    before = everything(lab)
    lab.asked()
    lab.aggregate(*full_set(make))
    assert everything(lab) == before
    assert lab.asked() == []
    assert "iptables: replacing" not in lab.router.read("/var/log/cloud.log").splitlines()[-1]


def test_one_by_one_gives_the_same_state_as_the_aggregate(lab, make):
    for kind, fields in full_set(make):
        lab.send(kind, **fields)
    before = everything(lab)
    lab.aggregate(*full_set(make))
    assert everything(lab) == before


def test_what_was_removed_by_hand_comes_back(lab, make):
    lab.aggregate(*full_set(make))
    before = everything(lab)
    lab.router.sh(
        "iptables -t nat -D PREROUTING -d 192.0.2.10 -i eth2 -p tcp --dport 2222 -j DNAT --to-destination 10.1.1.50:22;"
        "ip address del 192.0.2.30/24 dev eth2; ip route del 172.30.0.0/16; ip rule del fwmark 0x66 lookup 102"
    )
    assert everything(lab) != before
    lab.aggregate(*full_set(make))
    assert everything(lab) == before


def test_addresses_do_not_flap(lab, make):
    lab.send("ips", ip_address=[make.ip("192.0.2.20")])
    with lab.router.background("ip", "-oneline", "monitor", "address", stdout=subprocess.PIPE) as monitor:
        lab.send("ips", ip_address=[make.ip("192.0.2.20"), make.ip("192.0.2.30")])
        lab.send("ips", ip_address=[make.ip("192.0.2.30", add=False)])
        lab.router.sh("ip address add 192.0.2.99/32 dev lo")
        seen = []
        while not seen or "192.0.2.99" not in seen[-1]:
            seen.append(monitor.stdout.readline())
    changed = [line.split()[3 if "Deleted" not in line else 4] for line in seen if "inet " in line]
    assert {line for line in changed if not line.startswith("192.0.2.99")} == {"192.0.2.30/24"}


def test_removing_the_first_address_keeps_the_others(lab, make):
    lab.send("ips", ip_address=[make.ip("192.0.2.20"), make.ip("192.0.2.30")])
    lab.send("ips", ip_address=[make.ip("192.0.2.20", add=False)])
    listed = lab.router.sh("ip -o -4 address show dev eth2").stdout
    assert "192.0.2.10/24" in listed
    assert "192.0.2.30/24" in listed
    assert "192.0.2.20/24" not in listed
    other = {"gateway": "198.51.100.1"}
    lab.send("ips", ip_address=[make.ip("198.51.100.5", **other), make.ip("198.51.100.6", **other)])
    lab.send("ips", ip_address=[make.ip("198.51.100.5", add=False, **other)])
    listed = lab.router.sh("ip -o -4 address show dev eth2").stdout
    assert "198.51.100.6/24" in listed
    assert "198.51.100.5/24" not in listed


def test_neighbours_are_told_of_a_new_address(lab, make):
    lab.outside.sh("ip neighbour replace 192.0.2.20 lladdr 02:00:00:00:99:99 dev eth0 nud stale")
    lab.send("ips", ip_address=[make.ip("192.0.2.20")])
    heard = "ip neighbour show 192.0.2.20"
    assert eventually(lambda: "1e:00:00:00:00:02" in lab.outside.sh(heard).stdout, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"type": 7}', "no type of a message"),
        ("[" * 100000, "nested too deeply"),
        ('{"type": "forwardrules"}', "the field 'rules' is missing"),
        (
            '{"type": "firewallrules", "rules": [{"id": 1, "protocol": "tcp", "revoked": false}]}',
            "'traffic_type'",
        ),
        (
            json.dumps(
                {
                    "type": "forwardrules",
                    "rules": [
                        {
                            "revoke": False,
                            "protocol": "tcp",
                            "source_ip_address": "192.0.2.10 -j ACCEPT",
                            "source_port_range": "1:1",
                            "destination_ip_address": "10.1.1.50",
                            "destination_port_range": "1:1",
                        }
                    ],
                }
            ),
            "not an IPv4 address",
        ),
    ],
)
def test_a_malformed_databag_is_refused_with_the_reason(lab, content, reason):
    before = everything(lab)
    lab.router.write("/var/cache/cloud/bad.json", content)
    done = lab.router.run("/opt/cloud/bin/update_config.py", "bad.json", check=False)
    assert done.status == 1
    assert reason in done.stderr
    assert "bad.json" in done.stderr
    assert everything(lab) == before


def test_a_missing_file_is_refused_unless_it_was_applied_before(lab, make):
    assert lab.router.run("/opt/cloud/bin/update_config.py", "none.json", check=False).status == 1
    lab.send("firewallrules", name="rules.json", rules=[make.firewall(5, "192.0.2.10", 80)])
    assert lab.router.run("/opt/cloud/bin/update_config.py", "rules.json", check=False).status == 0


def test_a_copy_is_kept_unless_management_says_no(lab, make):
    lab.send("firewallrules", name="kept.json", rules=[make.firewall(5, "192.0.2.10", 80)])
    lab.router.write("/var/cache/cloud/dropped.json", json.dumps({"type": "firewallrules", "rules": []}))
    lab.router.run("/opt/cloud/bin/update_config.py", "dropped.json", "false")
    assert lab.router.run("ls", "/var/cache/cloud/processed").stdout.split() == [
        "cmd_line.json.gz",
        "kept.json.gz",
    ]


def test_a_message_that_is_not_understood_is_named_and_the_others_are_in_force(lab, make):
    lab.aggregate(*full_set(make))
    complete = everything(lab)
    lab.aggregate(*[(kind, gone(fields)) for kind, fields in full_set(make)[3:4]])
    assert everything(lab) != complete
    bad = ("forwardrules", {"rules": [{"revoke": False, "protocol": "quantum"}]})
    done = lab.aggregate(full_set(make)[0], bad, *full_set(make)[1:], check=False)
    assert done.status == 1
    assert "forwardrules.json" in done.stderr
    assert "protocol: not one of tcp, udp: 'quantum'" in done.stderr
    assert "the other 8 items are in force" in done.stderr
    assert everything(lab) == complete


def gone(fields):
    """Return the rules of a message, taken back."""
    return {"rules": [{**rule, "revoke": True} for rule in fields["rules"]]}


def test_a_message_of_an_unknown_type_is_logged_and_harmless(lab, make):
    before = everything(lab)
    lab.send("quantumrules", name="new.json", rules=[])
    assert lab.router.sh("ls /etc/cloudstack /var/cache/cloud/processed").stdout.count("new.json") == 1
    assert "new.json was ignored" in lab.router.read("/var/log/cloud.log")
    lab.aggregate(("quantumrules", {"rules": []}), *full_set(make))
    assert everything(lab) != before
    assert "quantumrules" not in lab.router.sh("ls /etc/cloudstack").stdout


def test_a_character_that_ends_lines_elsewhere_does_not_cut_a_message_of_an_aggregate(lab, get):
    vm = lab.vm(VM, "10.1.1.50")
    keys = "ssh-rsa AAAA \x85\x0b\x1c name"
    path, name = "/var/cache/cloud/VR-9.cfg", "vm_metadata.json.9"
    rows = [["metadata", "public-keys", keys]]
    message = json.dumps(
        {"type": "vmdata", "vm_ip_address": "10.1.1.50", "vm_metadata": rows}, ensure_ascii=False
    )
    lines = ["<version>", "1.0", "</version>", "<file>", f"/var/cache/cloud/{name}", message, "</file>"]
    lines += ["<script>", f"/opt/cloud/bin/update_config.py {name}", "</script>"]
    lab.router.write(path, "\n".join(lines) + "\n")
    lab.router.run("/opt/cloud/bin/vr_cfg.sh", "-c", path)
    assert get(vm, "http://10.1.1.1/latest/public-keys") == keys


def test_a_configuration_that_haproxy_refuses_is_left_out_alone(lab, make):
    forward = ("forwardrules", {"rules": [make.forward("192.0.2.10", 9, "10.1.1.50", 9)]})
    lab.aggregate(*full_set(make), forward)
    with_forward = everything(lab)
    lab.aggregate((forward[0], gone(forward[1])))
    lab.asked()
    rule = make.balancer(("192.0.2.10", 81, ["10.1.1.50:80"]))
    rule["configuration"].append("\tnonsense here")
    done = lab.aggregate(("loadbalancer", {"rules": [rule]}), forward, check=False)
    assert done.status == 1
    assert "unknown keyword 'nonsense'" in done.stderr
    assert "the other 1 items are in force" in done.stderr
    assert everything(lab) == with_forward
    assert lab.asked() == []


def test_a_listener_whose_port_is_taken_is_refused(lab, make, get):
    vm = lab.vm(VM, "10.1.1.50")
    lab.site(vm, "vm1")
    forward = ("forwardrules", {"rules": [make.forward("192.0.2.10", 9, "10.1.1.50", 9)]})
    lab.aggregate(*full_set(make), forward)
    with_forward = everything(lab)
    lab.aggregate((forward[0], gone(forward[1])))
    program = "import socket; s = socket.create_server(('192.0.2.10', 81)); print('listening', flush=True); s.accept()"
    with lab.router.background("python3", "-c", program, stdout=subprocess.PIPE) as rival:
        assert rival.stdout.readline() == "listening\n"
        both = make.balancer(("192.0.2.10", 80, ["10.1.1.50:80"]), ("192.0.2.10", 81, ["10.1.1.50:80"]))
        done = lab.aggregate(forward, ("loadbalancer", {"rules": [both]}), check=False)
    assert done.status == 1
    assert "another program listens on 192.0.2.10:81" in done.stderr
    assert everything(lab) == with_forward
    assert get(lab.outside, "http://192.0.2.10/") == "vm1"


def test_a_failing_script_of_an_aggregate_is_a_failure(lab):
    assert lab.aggregate(scripts=("false",), check=False).status == 1
    assert lab.aggregate(scripts=("true",)).status == 0


def test_a_cut_off_aggregate_is_refused(lab):
    lab.router.write(
        "/var/cache/cloud/VR-1.cfg", "<version>\n1.0\n</version>\n<file>\n/var/cache/cloud/x\n{}\n"
    )
    done = lab.router.run("/opt/cloud/bin/vr_cfg.sh", "-c", "/var/cache/cloud/VR-1.cfg", check=False)
    assert done.status == 1
    assert "cut off" in done.stderr


def test_a_file_of_an_aggregate_keeps_its_blanks_and_cannot_leave_its_folder(lab):
    head = "<version>\n1.0\n</version>\n"
    content = "a  *   b"
    lab.router.write(
        "/var/cache/cloud/VR-1.cfg", f"{head}<file>\n/var/cache/cloud/note\n{content}\n</file>\n"
    )
    lab.router.run("/opt/cloud/bin/vr_cfg.sh", "-c", "/var/cache/cloud/VR-1.cfg")
    assert lab.router.read("/var/cache/cloud/note") == content + "\n"
    lab.router.write("/var/cache/cloud/VR-2.cfg", f"{head}<file>\n/etc/passwd\n{content}\n</file>\n")
    assert (
        lab.router.run("/opt/cloud/bin/vr_cfg.sh", "-c", "/var/cache/cloud/VR-2.cfg", check=False).status == 1
    )


def test_counters_of_the_accounting_rules_survive_another_rule(lab, make, get):
    vm = lab.vm(VM, "10.1.1.50")
    lab.site(vm, "vm1")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 80)])
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 80, "10.1.1.50", 80)])
    assert get(lab.outside, "http://192.0.2.10/") == "vm1"
    count = "iptables-save -c -t filter | grep -e '-A NETWORK_STATS_eth2'"
    before = lab.router.sh(count).stdout
    assert "[0:0]" not in before
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 81, "10.1.1.50", 81)])
    assert lab.router.sh(count).stdout == before


def test_a_thousand_forwarding_and_two_hundred_balancing_rules_take_less_than_three_seconds(lab, make):
    forwards = [make.forward("192.0.2.10", 10000 + n, f"10.1.1.{50 + n % 200}", 22) for n in range(1000)]
    balancers = make.balancer(
        *[("192.0.2.10", 20000 + n, ["10.1.1.50:80", "10.1.1.51:80"]) for n in range(200)]
    )
    bags = [("forwardrules", {"rules": forwards}), ("loadbalancer", {"rules": [balancers]})]
    started = lab.router.sh("date +%s.%N").stdout
    lab.aggregate(*bags)
    ended = lab.router.sh("date +%s.%N").stdout
    assert float(ended) - float(started) < 3
    assert lab.router.sh("iptables-save -t nat | grep -c 'PREROUTING.*DNAT'").stdout.strip() == "2000"


def test_what_was_applied_is_undone_when_a_later_part_fails(lab, make, get):
    vm = lab.vm(VM, "10.1.1.50")
    lab.site(vm, "vm1")
    forward = ("forwardrules", {"rules": [make.forward("192.0.2.10", 9, "10.1.1.50", 9)]})
    lab.aggregate(*full_set(make), forward)
    with_forward = everything(lab)
    lab.aggregate((forward[0], gone(forward[1])))
    # A stand-in that cannot reload is the only way to make a checked configuration fail.
    lab.router.sh("sed -i 's/^reload() {/reload() { return 1;/' /run/stand-in/systemctl")
    both = make.balancer(("192.0.2.10", 80, ["10.1.1.50:80"]), ("192.0.2.10", 82, ["10.1.1.50:80"]))
    done = lab.aggregate(forward, ("loadbalancer", {"rules": [both]}), check=False)
    assert done.status == 1
    assert "reload haproxy.service" in done.stderr
    assert everything(lab) == with_forward
    assert get(lab.outside, "http://192.0.2.10/") == "vm1"
