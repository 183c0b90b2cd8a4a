"""Who of a network's outsiders is the far end of a tunnel or a session."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest

from bundle.errors import UsageError
from harness import network
from harness.network import far_ends

VPN, IPV6 = (
    tomllib.loads((files("harness.network") / "shipped" / f"{name}.toml").read_text())
    for name in ("vpn", "router-ipv6")
)


@pytest.mark.parametrize(
    ("name", "daemons", "ends"),
    [
        ("router", False, False), ("vpc", False, False), ("two-public", False, False), ("router-ipv6", True, False),
        ("vpn", True, True), ("vpc-routed", True, True),
    ],
)  # fmt: skip
def test_some_networks_need_daemons_and_some_of_them_far_ends(name: str, daemons: bool, ends: bool) -> None:
    declared = network.load(name)
    assert (far_ends.needs_daemons(declared), far_ends.has_far_ends(declared)) == (daemons, ends)


def test_the_other_site_is_no_caller() -> None:
    declared = network.load("vpn")
    assert [outsider.name for outsider, _ in far_ends.sites(declared)] == ["internet"]
    assert [(o.name, user) for o, user in far_ends.callers(declared)] == [("caller", ("bob", "b0b-secret"))]
    assert str(far_ends.vpn_server(declared)) == "10.1.2.1"


def test_a_far_end_that_nobody_plays_is_none() -> None:
    alone = network.parse({**VPN, "outsider": []})
    assert not far_ends.has_far_ends(alone)
    assert far_ends.needs_daemons(alone)


def test_an_outsider_by_ipv6_is_in_the_network_of_its_nic() -> None:
    moved = [{**IPV6["outsider"][0], "address6": "2001:db8:99::1/64"}]
    with pytest.raises(
        UsageError, match=r"2001:db8:99::1/64 of .*outsider.* is not in the network of its NIC"
    ):
        network.parse({**IPV6, "outsider": moved})
