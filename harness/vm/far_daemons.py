"""Daemons of the far ends: what the outsiders run that have a tunnel or a session with the router.

They are the template's own strongSwan, xl2tpd with pppd, and frr, each on its host of the tenant guest. They begin by
themselves and again when they lose their other end, as the router of another site or a person's machine does.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from bundle.errors import InfrastructureError
from harness.guest.connection import GuestError
from harness.network import Network, far_ends
from harness.network.model import BgpPeer, Outsider, SiteToSite, Vpn
from harness.vm.system import SystemVm

# Seconds for daemons to start under emulation.
DEADLINE = 120.0
_RUN = "in-template"
# Of the template, as a host of the tenant guest sees it.
_ROOT = "/copy/root"
_SECRETS = "/etc/ipsec.secrets"


def start(vm: SystemVm, network: Network) -> None:
    """Start the daemons of all far ends; what they are to reach may still be closed.

    Raises:
        InfrastructureError: the template lacks one, or it does not start; says on which host.
    """
    for outsider, script in _scripts(network):
        try:
            vm.tenants[outsider.name].run(script, deadline=DEADLINE)
        except GuestError as error:
            raise InfrastructureError(f"the far end {outsider.name} does not start: {error}") from None


def _scripts(network: Network) -> Iterator[tuple[Outsider, str]]:
    """Yield who is a far end and what starts its daemons."""
    for outsider, site in far_ends.sites(network):
        yield outsider, _site(outsider, site, str(network.all_inside))
    for outsider, user in far_ends.callers(network):
        assert network.vpn is not None  # noqa: S101 - nobody else has callers
        yield outsider, _caller(outsider, network.vpn, user, str(network.all_inside))
    for outsider, peer in far_ends.neighbours(network):
        router = network.public_of(outsider.address.ip).address.ip
        yield outsider, _neighbour(outsider, peer, str(router), network.as_number or 0)


def _site(outsider: Outsider, site: SiteToSite, inside: str) -> str:
    """Return what starts the router of another site: strongSwan, which begins."""
    policy = site.policy.replace(";", "-")
    networks = ",".join(map(str, site.networks))
    connection = [
        "conn site", f"left={outsider.address.ip}", f"leftsubnet={networks}", f"right={site.public}",
        f"rightsubnet={inside}", "authby=secret", "type=tunnel", "keyexchange=ike", f"ike={policy}", f"esp={policy}",
        "keyingtries=%forever", "dpddelay=5", "dpdtimeout=20", "dpdaction=restart", "closeaction=restart",
        "auto=start" if site.passive else "auto=add",
    ]  # fmt: skip
    secret = f'{outsider.address.ip} {site.public} : PSK "{site.preshared_key}"'
    return _with_files({"/etc/ipsec.conf": "\n    ".join(connection), _SECRETS: secret}, _IPSEC)


def _caller(outsider: Outsider, vpn: Vpn, user: tuple[str, str], inside: str) -> str:
    """Return what logs a person's machine in: strongSwan protects L2TP from its first packet, xl2tpd dials."""
    name, password = user
    own = outsider.address.ip
    connection = [
        "conn caller", f"left={own}", "leftprotoport=17/1701", f"right={vpn.public}", "rightprotoport=17/1701",
        "authby=secret", "type=transport", "keyexchange=ikev1", "keyingtries=%forever", "dpddelay=5", "dpdtimeout=20",
        "dpdaction=restart", "auto=route",
    ]  # fmt: skip
    dialled = [
        "[lac vpn]", f"lns = {vpn.public}", "pppoptfile = /etc/ppp/options.caller", "autodial = yes", "redial = yes",
        "redial timeout = 2", "max redials = 100000",
    ]  # fmt: skip
    options = [
        "noauth", "noccp", "mtu 1410", "mru 1410", "nodefaultroute", "refuse-eap", "refuse-pap", "ipcp-accept-local",
        "ipcp-accept-remote", "lcp-echo-interval 5", "lcp-echo-failure 4", f"name {name}",
        f"password {shlex.quote(password)}",
    ]  # fmt: skip
    files = {
        "/etc/ipsec.conf": "\n    ".join(connection),
        _SECRETS: f'{own} {vpn.public} : PSK "{vpn.preshared_key}"',
        "/etc/xl2tpd/xl2tpd.conf": "\n".join(dialled),
        "/etc/ppp/options.caller": "\n".join(options),
        # The route to what is behind the router comes with the interface.
        "/etc/ppp/ip-up.d/route": f"#!/bin/sh\nip route replace {inside} dev $1",
    }
    return _with_files(files, f"{_IPSEC}\n{_XL2TPD}")


def _neighbour(outsider: Outsider, peer: BgpPeer, router: str, number: int) -> str:
    """Return what starts a neighbour in BGP: frr, which knows a network that the router does not."""
    lines = [
        f"hostname {outsider.name}", f"router bgp {peer.as_number}", f" bgp router-id {outsider.address.ip}",
        " no bgp ebgp-requires-policy", " no bgp network import-check", " timers bgp 3 9",
        f" neighbor {router} remote-as {number}", f" neighbor {router} timers connect 3",
        *([f" neighbor {router} password {peer.password}"] if peer.password else []),
        *([f" neighbor {router} ebgp-multihop {peer.hops}"] if peer.hops else []),
        " address-family ipv4 unicast", f"  network {far_ends.ANNOUNCED}", " exit-address-family",
    ]  # fmt: skip
    files = {"/etc/frr/frr.conf": "\n".join(lines), "/etc/frr/vtysh.conf": "service integrated-vtysh-config"}
    return _with_files(files, _FRR)


def _with_files(files: dict[str, str], then: str) -> str:
    """Return a script that writes files into a host's copy of the template, and does something there."""
    # The first call makes the copy.
    lines = [f"{_RUN} /bin/true || exit 1"]
    for path, text in files.items():
        lines.append(f"printf '%s\\n' {shlex.quote(text)} >{_ROOT}{path}; chmod 700 {_ROOT}{path}")
    return "\n".join([*lines, then])


def _quietly(name: str, command: str) -> str:
    """Return what starts a daemon; it keeps its output open, and who started it waits for the end of that."""
    log = f"/tmp/{name}.log"  # noqa: S108 - of a host in the tenant guest
    return f"{_RUN} /bin/sh -c {shlex.quote(command)} >{log} 2>&1 </dev/null || {{ cat {log}; exit 1; }}"


_IPSEC = _quietly("ipsec", "exec /usr/sbin/ipsec start")
_XL2TPD = _quietly("xl2tpd", "mkdir -p /run/xl2tpd && exec xl2tpd")
_FRR = _quietly(
    "frr",
    "install -d -o frr -g frr /run/frr && chown frr:frr /etc/frr/frr.conf && /usr/lib/frr/zebra -d && "
    "/usr/lib/frr/bgpd -d && exec vtysh -b",
)
