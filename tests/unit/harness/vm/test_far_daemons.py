"""What far ends are told: configurations that fit what the router was told, started in one script a host."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from harness import network
from harness.guest.connection import GuestError
from harness.vm import far_daemons


class Host:
    """Keeps what it is told to run."""

    def __init__(self, problem: str = "") -> None:
        self.scripts: list[str] = []
        self.problem = problem

    def run(self, script: str, *, deadline: float) -> None:
        assert deadline > 0
        self.scripts.append(script)
        if self.problem:
            raise GuestError(self.problem)


def started(name: str) -> dict[str, str]:
    """Return what each host of a shipped network is told, checked by the shell that is going to read it."""
    declared = network.load(name)
    hosts = {outsider.name: Host() for outsider in declared.outsiders}
    far_daemons.start(SimpleNamespace(tenants=hosts), declared)
    told = {name: "\n".join(host.scripts) for name, host in hosts.items()}
    for script in told.values():
        assert subprocess.run(["busybox", "sh", "-n", "-c", script], check=False).returncode == 0
    return told


def test_the_other_site_begins_where_the_router_waits() -> None:
    told = started("vpn")["internet"]
    for line in ("right=198.51.100.10", "rightsubnet=10.40.0.0/16", "leftsubnet=10.9.0.0/16,10.8.0.0/16",
                 "ike=aes128-sha1-modp1536", "auto=start"):  # fmt: skip
        assert f"    {line}\n" in told or f"    {line}'" in told
    assert '198.51.100.99 198.51.100.10 : PSK "k1-secret"' in told


def test_a_caller_protects_what_it_dials_and_has_a_way_behind_the_router() -> None:
    told = started("vpn")["caller"]
    assert "type=transport" in told
    assert "lns = 198.51.100.10" in told
    assert "name bob\npassword b0b-secret" in told
    assert "ip route replace 10.40.0.0/16 dev $1" in told
    assert told.index("ipsec start") < told.index("exec xl2tpd")


def test_a_neighbour_has_the_numbers_and_the_password_of_both() -> None:
    told = started("vpc-routed")["internet"]
    assert "router bgp 64512" in told
    assert " neighbor 198.51.100.10 remote-as 65001" in told
    assert " neighbor 198.51.100.10 password s3cret" in told
    assert "  network 203.0.113.0/24" in told


def test_a_network_without_far_ends_starts_nothing() -> None:
    assert started("router") == {"internet": ""}


def test_a_far_end_that_does_not_start_is_named() -> None:
    declared = network.load("vpc-routed")
    hosts = {"internet": Host("status 127: bgpd: not found")}
    with pytest.raises(InfrastructureError, match=r"the far end internet does not start: .*bgpd: not found"):
        far_daemons.start(SimpleNamespace(tenants=hosts), declared)
