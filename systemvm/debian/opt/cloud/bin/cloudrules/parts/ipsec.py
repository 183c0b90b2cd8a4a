"""Site-to-site and remote-access VPN by strongSwan and xl2tpd."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

from .. import system
from ..errors import Refused
from ..state import State

KINDS = frozenset({"site2sitevpn", "remoteaccessvpn", "vpnuserlist"})
FOLDER = Path("/etc/ipsec.d")
L2TP_CONNECTION = FOLDER / "l2tp.conf"
L2TP_SECRETS = FOLDER / "ipsec.any.secrets"
XL2TPD = Path("/etc/xl2tpd/xl2tpd.conf")
PPP_OPTIONS = Path("/etc/ppp/options.xl2tpd")
PPP_SECRETS = Path("/etc/ppp/chap-secrets")
UNIT = "strongswan-starter.service"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def render_site(row: Dict[str, Any]) -> str:
    """Return the connection to one peer; with split connections one for each of its networks."""
    peer = row["peer_gateway_ip"]
    networks = [network for network in row.get("peer_guest_cidr_list", "").split(",") if network]
    groups = [[network] for network in networks] if row.get("split_connections") else [networks]
    lines = ["# Made by the rules of the virtual router."]
    for number, group in enumerate(groups):
        lines += [
            "conn vpn-{}{}".format(peer, f"-{number}" if number else ""),
            "    left={}".format(row["local_public_ip"]),
            "    leftsubnet={}".format(row.get("local_guest_cidr", "")),
            f"    right={peer}",
            "    rightsubnet={}".format(",".join(group)),
            "    type=tunnel",
            "    authby=secret",
            "    keyexchange={}".format(row.get("ike_version", "ike")),
            "    ike={}".format(_policy(row.get("ike_policy", "aes128-sha1;modp1536"))),
            "    ikelifetime={}s".format(row.get("ike_lifetime", 86400)),
            "    esp={}".format(_policy(row.get("esp_policy", "aes128-sha1"))),
            "    lifetime={}s".format(row.get("esp_lifetime", 3600)),
            "    keyingtries=%forever",
            "    forceencaps={}".format(_yes(row.get("encap", False))),
            "    dpddelay=30",
            "    dpdtimeout=120",
            "    dpdaction={}".format("restart" if row.get("dpd") else "none"),
            "    auto={}".format("add" if row.get("passive") else "start"),
        ]
    return "\n".join(lines) + "\n"


def _policy(text: str) -> str:
    return text.replace(";", "-")


def render_site_secret(row: Dict[str, Any]) -> str:
    """Return the secret shared with one peer."""
    return '{} {} : PSK "{}"\n'.format(
        row["local_public_ip"], row["peer_gateway_ip"], row.get("ipsec_psk", "")
    )


def render_remote_access(row: Dict[str, Any]) -> Dict[Path, str]:
    """Return the files of a remote-access VPN."""
    server = row["vpn_server_ip"]
    return {
        L2TP_CONNECTION: "\n".join(
            [
                "# Made by the rules of the virtual router.",
                "conn L2TP-PSK",
                "    authby=secret",
                "    keyexchange=ikev1",
                "    rekey=no",
                "    type=transport",
                f"    left={server}",
                "    leftprotoport=17/1701",
                "    right=%any",
                "    rightprotoport=17/%any",
                "    auto=add",
                "",
            ]
        ),
        L2TP_SECRETS: '{} %any : PSK "{}"\n'.format(server, row.get("preshared_key", "")),
        XL2TPD: "\n".join(
            [
                "; Made by the rules of the virtual router.",
                "[lns default]",
                "ip range = {}".format(row.get("ip_range", "")),
                "local ip = {}".format(row.get("local_ip", "")),
                "require chap = yes",
                "refuse pap = yes",
                "length bit = yes",
                f"pppoptfile = {PPP_OPTIONS}",
                "",
            ]
        ),
        PPP_OPTIONS: "\n".join(
            [
                "# Made by the rules of the virtual router.",
                "ipcp-accept-local",
                "ipcp-accept-remote",
                "noccp",
                "mtu 1410",
                "mru 1410",
                "require-mschap-v2",
                "proxyarp",
                "ms-dns {}".format(row.get("local_ip", "")),
                "",
            ]
        ),
    }


def render_users(rows: Dict[str, Any]) -> str:
    """Return the names and passwords of the remote-access VPN."""
    return "".join(
        '"{}" * "{}" *\n'.format(rows[user]["user"], rows[user]["password"]) for user in sorted(rows)
    )


def _files(state: State) -> Dict[Path, str]:
    files = {}
    for peer, row in state.bag("site2sitevpn").items():
        files[FOLDER / f"ipsec.vpn-{peer}.conf"] = render_site(row)
        files[FOLDER / f"ipsec.vpn-{peer}.secrets"] = render_site_secret(row)
    for row in state.bag("remoteaccessvpn").values():
        files.update(render_remote_access(row))
    if state.bag("vpnuserlist"):
        files[PPP_SECRETS] = render_users(state.bag("vpnuserlist"))
    return files


def check(state: State) -> None:
    """Refuse quotes in secrets, and a VPN on a template without the programs for it."""
    secrets = [row.get("ipsec_psk", "") for row in state.bag("site2sitevpn").values()]
    secrets += [row.get("preshared_key", "") for row in state.bag("remoteaccessvpn").values()]
    secrets += [row["user"] + row["password"] for row in state.bag("vpnuserlist").values()]
    if any('"' in secret for secret in secrets):
        raise Refused(
            "VPN: a user name, password or key contains a double quote, which the configuration cannot hold"
        )
    needed: List[str] = []
    if state.bag("site2sitevpn") or state.bag("remoteaccessvpn"):
        needed.append("ipsec")
    if state.bag("remoteaccessvpn"):
        needed.append("xl2tpd")
    missing = [program for program in needed if not system.installed(program)]
    if missing:
        raise Refused(f"VPN: {' and '.join(missing)} is not installed in this template")


def apply(state: State) -> None:
    """Write the files, remove those of peers that are gone, and let the daemons read them."""
    files = _files(state)
    changed = system.write_all(files, 0o600)
    for path in FOLDER.glob("ipsec.vpn-*"):
        if path not in files:
            path.unlink()
            changed = True
    if not changed or state.booting or not system.installed("ipsec"):
        return
    if system.unit_active(UNIT):
        system.run(["ipsec", "rereadsecrets"])
        system.run(["ipsec", "update"])
    else:
        system.unit("start", UNIT)
    if state.bag("remoteaccessvpn"):
        system.unit("restart", "xl2tpd.service")
