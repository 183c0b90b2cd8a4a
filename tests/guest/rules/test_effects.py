"""Status 0 says that rules have their effect: a daemon that does not come up makes the message fail, by name."""

import pytest

from tests.guest.rules.test_field import REMOTE, SITE, with_vpn_programs
from tests.guest.rules.test_traffic import VM1, entry

ENTRY = entry(VM1, "10.1.1.50", "vm1")
DATA = {"vm_ip_address": "10.1.1.50", "vm_metadata": [["metadata", "about", "me"]]}


def never_starts(lab, unit):
    """Stop a unit, and let every later start of it succeed without a daemon."""
    lab.router.run("systemctl", "stop", unit)
    lab.router.sh(
        f"sed -i 's/^start() {{/start() {{ [[ $1 != {unit} ]] || return 0;/' /run/stand-in/systemctl"
    )
    lab.router.sh("sed -i 's/^READY_SECONDS = .*/READY_SECONDS = 0.3/' /opt/cloud/bin/cloudrules/sockets.py")


@pytest.mark.parametrize(
    ("unit", "kind", "fields", "reason"),
    [
        ("dnsmasq.service", "dhcpentry", ENTRY, "dnsmasq does not listen on 0.0.0.0:67, 10.1.1.1:53"),
        ("apache2.service", "vmdata", DATA, "apache does not listen on 10.1.1.1:80"),
        (
            "cloud-password-server@10.1.1.1.service",
            "vmpassword",
            {"ip_address": "10.1.1.50", "password": "x"},
            "the password server does not listen on 10.1.1.1:8080",
        ),
        ("strongswan-starter.service", "site2sitevpn", SITE, "strongswan-starter.service does not run"),
        ("xl2tpd.service", "remoteaccessvpn", REMOTE, "xl2tpd.service does not run"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "",
)  # fmt: skip
def test_a_daemon_that_does_not_come_up_fails_the_message(lab, unit, kind, fields, reason):
    with_vpn_programs(lab)
    never_starts(lab, unit)
    done = lab.send(kind, check=False, **fields)
    assert done.status == 1
    assert reason in done.stderr


def test_a_balancer_that_does_not_come_up_fails_the_message(lab, make):
    never_starts(lab, "haproxy.service")
    rule = make.balancer(("192.0.2.10", 8100, ["10.1.1.50:80"]))
    done = lab.send("loadbalancer", check=False, rules=[rule])
    assert done.status == 1
    assert "haproxy does not listen on 192.0.2.10:8100" in done.stderr


def test_a_static_route_that_leads_nowhere_is_refused(lab):
    route = {"revoke": False, "network": "172.30.0.0/16", "gateway": "198.51.100.9"}
    done = lab.send("staticroutes", check=False, routes=[route])
    assert done.status == 1
    assert "198.51.100.9, the gateway to 172.30.0.0/16, is on no network of this VM" in done.stderr
    assert "172.30.0.0/16" not in lab.router.sh("ip route").stdout


def test_a_daemon_that_died_is_started_by_the_next_message_that_needs_it(lab, make):
    messages = {
        "haproxy.service": (
            "loadbalancer",
            {"rules": [make.balancer(("192.0.2.10", 8100, ["10.1.1.50:80"]))]},
        ),
        "dnsmasq.service": ("dhcpentry", ENTRY),
        "apache2.service": ("vmdata", DATA),
    }
    for unit, (kind, fields) in messages.items():
        lab.send(kind, **fields)
        lab.router.run("systemctl", "stop", unit)
        lab.send(kind, **fields)
        lab.router.run("systemctl", "is-active", "--quiet", unit)
