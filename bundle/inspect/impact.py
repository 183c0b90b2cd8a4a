"""What a change of files means on a running VM: services, live configuration, downtime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from bundle.archive.members import Archive
from bundle.catalogue import Catalogue

# From harmless to worst. "later" takes effect at the next boot, rule or cron run.
Effect = Literal["none", "later", "reload", "restart", "failover"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)


@dataclass(frozen=True)
class _Rule:
    """Files that a service reads, and what it takes to make it read them again."""

    service: str
    patterns: tuple[str, ...]
    graceful: Effect
    always: Effect


_RULES = (
    _Rule(
        "haproxy",
        ("etc/haproxy/*", "opt/cloud/templates/haproxy*", "etc/systemd/system/haproxy.service*"),
        "reload",
        "restart",
    ),
    _Rule(
        "apache2", ("etc/apache2/*", "var/www/*", "etc/systemd/system/apache2.service*"), "reload", "restart"
    ),
    _Rule(
        "dnsmasq",
        ("etc/dnsmasq*", "etc/vpcdnsmasq.conf", "etc/systemd/system/dnsmasq.service*"),
        "restart",
        "restart",
    ),
    _Rule("keepalived", ("opt/cloud/templates/keepalived*", "etc/keepalived/*"), "failover", "failover"),
    _Rule("conntrackd", ("opt/cloud/templates/conntrackd*", "etc/conntrackd/*"), "later", "later"),
    _Rule("radvd", ("etc/radvd*",), "restart", "restart"),
    _Rule("strongswan-starter", ("etc/ipsec*",), "later", "later"),
    _Rule("xl2tpd", ("etc/xl2tpd/*", "etc/ppp/*"), "later", "later"),
    _Rule("ssh", ("etc/ssh/*",), "later", "later"),
    _Rule("rsyslog", ("etc/rsyslog*",), "later", "later"),
    _Rule(
        "cloud-password-server@",
        ("etc/systemd/system/cloud-password-server*", "opt/cloud/bin/passwd_server*"),
        "later",
        "later",
    ),
    _Rule("cloud", ("etc/systemd/system/cloud.service*",), "restart", "restart"),
    _Rule(
        "boot",
        (
            "etc/systemd/system/cloud-*",
            "opt/cloud/bin/setup/*",
            "etc/iptables/*",
            "etc/sysctl*",
            "etc/modprobe.d/*",
            "etc/cloud-nic.rules",
        ),
        "later",
        "later",
    ),
    _Rule("cron", ("etc/cron*", "etc/logrotate*", "root/*"), "later", "later"),
    _Rule("rules", ("opt/cloud/bin/*",), "later", "later"),
)
# Not services that can be restarted: names for a moment at which the files are read.
MOMENTS = {"boot": "at the next boot", "cron": "at the next cron run", "rules": "with the next rule"}
_EVERYWHERE = ("ssh", "rsyslog", *MOMENTS)
_ON_ROUTERS = ("radvd", "strongswan-starter", "xl2tpd", "cloud-password-server@", "conntrackd")


@dataclass(frozen=True)
class Affected:
    """One service, what happens to it, on which VM types, and the files that are the reason."""

    service: str
    effect: Effect
    types: tuple[str, ...]
    why: tuple[str, ...]


def types_of(service: str, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the VM types that run a service."""
    if service in _EVERYWHERE:
        return tuple(catalogue.types)
    if service in _ON_ROUTERS:
        return catalogue.types_that(have="rules")
    return tuple(
        name for name in catalogue.types if any(service in row.enabled for row in catalogue.services_of(name))
    )


def is_live(path: str, catalogue: Catalogue) -> bool:
    """Say whether boot or rules rewrite a file, so that a patch keeps what it finds."""
    return any(path.startswith(live) if live.endswith("/") else path == live for live in catalogue.live_paths)


def _service(archive: Archive, path: str) -> _Rule | None:
    if archive == "agent.zip":
        return _Rule("cloud", (), "restart", "restart")
    return next((rule for rule in _RULES if any(fnmatchcase(path, row) for row in rule.patterns)), None)


def affected(
    changed: Iterable[tuple[Archive, str]], catalogue: Catalogue, *, graceful: bool
) -> tuple[Affected, ...]:
    """Return the services that read changed files, the worst effect first.

    Args:
        changed: archive and path of every file that was added, removed or changed.
        catalogue: says which VM type runs what.
        graceful: whether the patch script reloads services where it can.
    """
    why: dict[str, list[str]] = {}
    effects: dict[str, Effect] = {}
    for archive, path in changed:
        rule = _service(archive, path)
        if rule is None:
            continue
        effect = rule.graceful if graceful else rule.always
        why.setdefault(rule.service, []).append(
            path if archive == "cloud-scripts.tgz" else f"{archive}: {path}"
        )
        effects[rule.service] = max(effects.get(rule.service, "none"), effect, key=EFFECTS.index)
    rows = [
        Affected(name, effects[name], types_of(name, catalogue), tuple(sorted(paths)))
        for name, paths in why.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-EFFECTS.index(row.effect), row.service)))


def downtime(services: Iterable[Affected], catalogue: Catalogue) -> dict[str, Effect]:
    """Return the worst effect for every VM type of a catalogue."""
    worst: dict[str, Effect] = dict.fromkeys(catalogue.types, "none")
    for row in services:
        for name in row.types:
            worst[name] = max(worst[name], row.effect, key=EFFECTS.index)
    return worst
