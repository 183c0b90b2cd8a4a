"""Site-to-site and remote-access VPN by strongSwan and xl2tpd.

Proof: the daemons that the VPNs need run, and strongSwan has each connection. Whether a tunnel stands is for both its
ends to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Set

from .. import system
from ..errors import Failed, Refused
from ..state import State

KINDS = frozenset({"site2sitevpn", "remoteaccessvpn", "vpnuserlist"})
FOLDER = Path("/etc/ipsec.d")
# What strongSwan reads, and the line that leads it to the files of the VPNs. Debian's own have none.
INCLUDES = {
    Path("/etc/ipsec.conf"): "include /etc/ipsec.d/*.conf",
    Path("/etc/ipsec.secrets"): "include /etc/ipsec.d/ipsec.*.secrets",
}
L2TP_CONNECTION = FOLDER / "l2tp.conf"
L2TP_SECRETS = FOLDER / "ipsec.any.secrets"
XL2TPD = Path("/etc/xl2tpd/xl2tpd.conf")
PPP_OPTIONS = Path("/etc/ppp/options.xl2tpd")
PPP_SECRETS = Path("/etc/ppp/chap-secrets")
UNIT = "strongswan-starter.service"
L2TP_UNIT = "xl2tpd.service"
_REMOTE = (L2TP_CONNECTION, L2TP_SECRETS, XL2TPD, PPP_OPTIONS)
# Seconds for strongSwan to start and to read a connection; two of them are usual on an emulated processor.
READY_SECONDS = 30.0


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
            "conn vpn-{}{}".format(peer, f"-{number + 1}" if number else ""),
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
        "{} * {} *\n".format(_quoted(rows[user]["user"]), _quoted(rows[user]["password"]))
        for user in sorted(rows)
    )


def _quoted(text: str) -> str:
    """Return a text as pppd reads a word of its secrets."""
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def _files(state: State) -> Dict[Path, str]:
    files = {}
    for peer, row in state.bag("site2sitevpn").items():
        files[FOLDER / f"ipsec.vpn-{peer}.conf"] = render_site(row)
        files[FOLDER / f"ipsec.vpn-{peer}.secrets"] = render_site_secret(row)
    for row in state.bag("remoteaccessvpn").values():
        files.update(render_remote_access(row))
    if state.bag("remoteaccessvpn") or state.bag("vpnuserlist"):
        files[PPP_SECRETS] = render_users(state.bag("vpnuserlist"))
    return files


def _stale(files: Dict[Path, str]) -> List[Path]:
    """Return the files of VPNs and users that are gone; a secret must not outlive what it was for."""
    there = sorted(FOLDER.glob("ipsec.vpn-*")) + [path for path in (*_REMOTE, PPP_SECRETS) if path.exists()]
    return [path for path in there if path not in files]


def check(state: State) -> None:
    """Refuse quotes in secrets, and a VPN on a template without the programs for it."""
    secrets = [row.get("ipsec_psk", "") for row in state.bag("site2sitevpn").values()]
    secrets += [row.get("preshared_key", "") for row in state.bag("remoteaccessvpn").values()]
    if any('"' in secret for secret in secrets):
        raise Refused("VPN: a key contains a double quote, which the configuration cannot hold")
    needed: List[str] = []
    if state.bag("site2sitevpn") or state.bag("remoteaccessvpn"):
        needed.append("ipsec")
    if state.bag("remoteaccessvpn"):
        needed.append("xl2tpd")
    missing = [program for program in needed if not system.installed(program)]
    if missing:
        raise Refused(f"VPN: {' and '.join(missing)} is not installed in this template")


def apply(state: State) -> None:
    """Write the files, remove those of what is gone, and let the daemons read them; start what does not run."""
    files = _files(state)
    stale = _stale(files)
    removed = _users(system.read_text(PPP_SECRETS) or "") - _users(files.get(PPP_SECRETS, ""))
    if _wanted(state):
        files.update(with_includes())
    changed = {path for path, text in files.items() if system.write_text(path, text, 0o600)}
    for path in stale:
        path.unlink()
    if system.installed("ipsec"):
        _tell_ipsec(state, changed, stale)
    if system.installed("xl2tpd"):
        _tell_l2tp(state, changed, stale, bool(removed))


def with_includes() -> Dict[Path, str]:
    """Return the files that lead to those of the VPNs; what somebody else wrote there stays."""
    files = {}
    for path, line in INCLUDES.items():
        text = system.read_text(path) or ""
        if line not in text.splitlines():
            text += f"\n{line}\n" if text else f"{line}\n"
        files[path] = text
    return files


def _users(secrets: str) -> Set[str]:
    return {line for line in secrets.split("\n") if line.startswith('"')}


def _wanted(state: State) -> bool:
    return bool(state.bag("site2sitevpn") or state.bag("remoteaccessvpn"))


def _tell_ipsec(state: State, changed: Set[Path], stale: List[Path]) -> None:
    """Bring strongSwan to the files. Its unit is in no list of services, so nobody else starts it after a boot."""
    news = {path for path in (*changed, *stale) if path.parent == FOLDER or path in INCLUDES}
    if not news and not _wanted(state):
        return
    if not system.unit_active(UNIT):
        if _wanted(state):
            system.unit("start", UNIT)
        return
    if news:
        for name in _ended(stale):
            # Ends with an error where no tunnel stands, which is as good.
            system.succeeds(["ipsec", "down", name])
        system.run(["ipsec", "rereadsecrets"])
        system.run(["ipsec", "update"])


def _ended(stale: List[Path]) -> List[str]:
    """Return the connections of removed files; those of a split one end with it."""
    names = [
        path.name[len("ipsec.") : -len(".conf")]
        for path in stale
        if path.name.startswith("ipsec.vpn-") and path.suffix == ".conf"
    ]
    return names + (["L2TP-PSK"] if L2TP_CONNECTION in stale else [])


def _tell_l2tp(state: State, changed: Set[Path], stale: List[Path], dismissed: bool) -> None:
    """Run xl2tpd while there is a VPN for it; the sessions of users who were removed end with its restart."""
    if not state.bag("remoteaccessvpn"):
        if XL2TPD in stale:
            system.unit("stop", L2TP_UNIT)
    elif dismissed or changed & {XL2TPD, PPP_OPTIONS}:
        system.unit("restart", L2TP_UNIT)
    elif not system.unit_active(L2TP_UNIT):
        system.unit("start", L2TP_UNIT)


def prove(state: State) -> None:
    """Refuse to say that a VPN is in force while its daemon does not run."""
    needed = [UNIT] if _wanted(state) else []
    needed += [L2TP_UNIT] if state.bag("remoteaccessvpn") else []
    dead = [unit for unit in needed if not system.unit_active(unit)]
    if dead:
        raise Failed(f"{' and '.join(dead)} does not run")
    wanted = connections(state)
    if not system.wait_for(lambda: not _unknown(wanted), READY_SECONDS, tick=0.2):
        raise Failed(f"strongSwan has no connection {' and '.join(sorted(_unknown(wanted)))}")


def connections(state: State) -> Set[str]:
    """Return the names of the connections that strongSwan has to have."""
    texts = [text for path, text in _files(state).items() if path.parent == FOLDER]
    return {line[len("conn ") :] for text in texts for line in text.split("\n") if line.startswith("conn ")}


def _unknown(wanted: Set[str]) -> Set[str]:
    """Return the wanted connections that strongSwan does not have; all of them while it does not answer."""
    if not wanted:
        return set()
    try:
        status = system.run(["ipsec", "statusall"])
    except Failed:
        return wanted
    known = {line.split(":")[0].strip() for line in status.split("\n") if ":" in line}
    return wanted - known
