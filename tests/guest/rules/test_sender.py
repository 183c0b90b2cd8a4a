"""What the harness sends in a server's place is taken by the payload, network by network, and changes nothing again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import network
from harness.network import Orders, Plug
from harness.vm.around import around
from tests.guest.rules.lab import Lab, laboratory

SHIPPED = sorted(file.name[:-5] for file in (files("harness.network") / "shipped").iterdir())
# What a template without strongSwan or frr refuses by name.
NEEDS = {"vpn": ("/usr/sbin/ipsec", "/usr/sbin/xl2tpd"), "vpc-routed": ("/usr/lib/frr/bgpd",)}
STATE = "iptables-save | grep -v '^#' | sed 's/ *\\[.*//'; ip -o -4 address show scope global; ip -4 route; ip -4 rule"


@dataclass
class Inside:
    """The router of a laboratory, as the sender sees a guest."""

    lab: Lab
    name: str = "laboratory"

    def run(self, command, *, deadline=60.0, stdin=b"", check=True):
        """Run a command in the router."""
        done = self.lab.router.run("bash", "-c", command, stdin=stdin.decode(), check=check, timeout=deadline)
        return SimpleNamespace(status=done.status, stdout=done.stdout, stderr=done.stderr, seconds=0.0)

    def put(self, data, path, mode=0o644):
        """Write a file in the router."""
        self.lab.router.write(path, data.decode())
        self.lab.router.run("chmod", f"{mode:o}", path)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_payload_takes_what_a_server_sends_and_again(name):
    declared = network.load(name)
    for program in NEEDS.get(name, ()):
        if not Path(program).exists():
            pytest.skip(f"{program} is not installed")
    plan = around(declared)
    macs = {nic.device: nic.mac for nic in declared.nics}
    late = {f"eth{number}" for number, nic in enumerate(plan.nics) if nic.later}
    with laboratory(guest=None, control=declared.control.device, public=None) as lab:
        for nic in declared.nics:
            if nic != declared.control and nic.device not in late:
                lab.plug_guest(nic.device, nic.mac, bridge=f"br-{nic.device}")
        words = [word.partition("=") for word in shlex.split(plan.cmdline("ssh-ed25519 AAAA"))]
        services = ("haproxy",) if declared.is_balancer else ("haproxy", "dnsmasq", "apache2")
        lab.boot({key: value for key, _, value in words}, services=services)

        def plug(step: Plug) -> None:
            lab.plug_guest(step.device, macs[step.device], bridge=f"br-{step.device}")

        orders = Orders(declared, "4.22", 1761830000000, ("Cloudstack Release 4.22.0", "ab12"))
        network.deliver(Inside(lab), orders.start(), plug)
        before = lab.router.sh(STATE).stdout
        addresses = {word.partition("/")[0] for word in lab.router.sh("ip -o -4 address").stdout.split()}
        own = {str(nic.address.ip) for nic in declared.nics if nic.role in {"guest", "tier", "private"}}
        own |= {str(row.address) for row in declared.public_addresses} | {str(a.ip) for a in declared.aliases}
        if declared.redundant is None:  # the addresses of a pair are its primary's
            assert own <= addresses
        network.deliver(Inside(lab), orders.reapply())
        assert lab.router.sh(STATE).stdout == before
