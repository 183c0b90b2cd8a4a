"""Everything that the rules render, by name of a golden file.

``python -m tests.unit.payload.rendered`` writes the golden files; read the difference before you keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.unit.payload import guest

GOLDEN = Path(__file__).with_name("golden")
SCENES = {
    "router": [guest.ROUTER],
    "router-rules": [
        guest.ROUTER, guest.PUBLIC_IP, guest.FIREWALL, guest.FORWARD, guest.STATIC_NAT, guest.BALANCER, *guest.DHCP,
    ],
    "router-vpn": [guest.ROUTER, guest.SITE_VPN, guest.REMOTE_VPN],
    "redundant": [guest.REDUNDANT, *guest.DHCP],
    "vpc": [guest.VPC, guest.VPC_PUBLIC, guest.TIER, guest.ACL, guest.VPC_FORWARD, guest.STATIC_ROUTE],
    "vpc-empty": [guest.VPC],
    "dhcpsrvr": [guest.SHARED],
    "ilbvm": [guest.INTERNAL, guest.BALANCER],
}  # fmt: skip


def _lines(values: list[str]) -> str:
    return "".join(value + "\n" for value in values)


def everything() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every golden file."""
    netfilter, ipv6 = guest.module("netfilter"), guest.module("netfilter.ipv6")
    dhcp, routes, addresses = (guest.module(f"parts.{name}") for name in ("dhcp", "routes", "addresses"))
    for scene, documents in SCENES.items():
        state = guest.state(*documents)
        yield f"{scene}.iptables", netfilter.render(state.topology, state.bags)
        yield f"{scene}.ip6tables", ipv6.render(state.topology, state.bags)
        wanted = addresses.wanted(state.topology, primary=True)
        yield (
            f"{scene}.network",
            _lines(
                [f"{device} {' '.join(found)}" for device, found in sorted(wanted.items())]
                + routes.wanted(state)
                + routes.rules(state.topology)
            ),
        )
        if state.topology.serves_guests:
            yield f"{scene}.dnsmasq", dhcp.render_config(state.topology)
            yield f"{scene}.dhcphosts", dhcp.render_hosts(state)
            yield f"{scene}.dhcpopts", dhcp.render_options(state)
            yield f"{scene}.names", dhcp.render_names(state)
    yield from _others()


def _others() -> Iterator[tuple[str, str]]:
    redundancy, ipsec, monitor, bgp = (
        guest.module(f"parts.{n}") for n in ("redundancy", "ipsec", "monitor", "bgp")
    )
    pair = guest.state(guest.REDUNDANT).topology
    yield "keepalived.conf", redundancy.render_keepalived(pair)
    yield "conntrackd.conf", redundancy.render_conntrackd(pair)
    yield "ipsec.site.conf", ipsec.render_site(guest.SITE_VPN)
    yield "ipsec.site.secrets", ipsec.render_site_secret(guest.SITE_VPN)
    for path, text in ipsec.render_remote_access(guest.REMOTE_VPN).items():
        yield f"remote-access.{path.name}", text
    yield "monitor.conf", monitor.render_config(guest.MONITOR)
    yield "monitor.cron", monitor.render_cron(guest.MONITOR)
    yield "frr.conf", bgp.render("r-10-VM", {"1-2": guest.PEERS["peers"][0]})
    template = (guest.SYSTEMVM / "debian/etc/apache2/vhost.template").read_text()
    for name, text in guest.module("parts.web").render_sites(template, ["10.1.1.1"]).items():
        yield name, text


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, text in everything():
        (GOLDEN / name).write_text(text)
