"""The load balancer's configuration in the elements that a management server sends: some hold several lines."""

from __future__ import annotations

from ipaddress import IPv4Address

from harness.network.model import LoadBalancer
from harness.network.wire import reaches

# What a network offering allows when it says nothing else.
_MAX_CONNECTIONS = 4096
STATS_PORT = 8081
_HTTP_PORT = 80
# What parts two sections.
_GAP = "\t "
# The releases whose balancers have an administration socket, and close connections by the newer option.
_MODERN = ("4.18.0",)


def configuration(rules: tuple[LoadBalancer, ...], stats_address: IPv4Address, release: str) -> list[str]:
    """Return the whole configuration; one element may hold several lines, none ends with a line end but statistics.

    Args:
        rules: the load-balancer rules; without any, a listener that nobody uses keeps haproxy alive.
        stats_address: where the statistics page listens.
        release: of the management server.
    """
    elements = [*_global(release), _GAP, *_defaults(release), _stats(stats_address), _GAP]
    for rule in rules:
        elements += [*_listener(rule, release), _GAP]
    elements.append(_GAP)
    if not rules:
        elements += ["listen  vmops", "\tbind 0.0.0.0:9", "\toption transparent"]
    return elements


def pool_name(rule: LoadBalancer) -> str:
    """Return what haproxy calls a rule: ``192_0_2_10-80``."""
    return f"{str(rule.public).replace('.', '_')}-{rule.port}"


def _global(release: str) -> list[str]:
    socket = ["\tstats socket /run/haproxy/admin.sock"] if reaches(release, _MODERN) else []
    return [
        "global",
        "\tlog 127.0.0.1:3914   local0 warning",
        f"\tmaxconn {_MAX_CONNECTIONS}",
        f"\tmaxpipes {_MAX_CONNECTIONS // 4}",
        "\tchroot /var/lib/haproxy",
        "\tuser haproxy",
        "\tgroup haproxy",
        *socket,
        "\tdaemon",
    ]


def _defaults(release: str) -> list[str]:
    return [
        "defaults",
        "\tlog     global",
        "\tmode    tcp",
        "\toption  dontlognull",
        "\tretries 3",
        "\toption redispatch",
        "\toption forwardfor",
        "\toption httpclose" if reaches(release, _MODERN) else "\toption forceclose",
        "\ttimeout connect    5000",
        "\ttimeout client     50000",
        "\ttimeout server     50000",
    ]


def _listener(rule: LoadBalancer, release: str) -> list[str]:
    name = pool_name(rule)
    http = ["\tmode http", "\toption httpclose"] if rule.port == _HTTP_PORT else []
    sources = " ".join(map(str, rule.sources))
    refused = f"\tacl network_allowed src {sources} \n\ttcp-request connection reject if !network_allowed"
    servers = [
        f"\tserver {name}_{number} {member.address}:{member.port} check"
        for number, member in enumerate(rule.members)
    ]
    return [
        f"listen {name}",
        f"\tbind {rule.public}:{rule.port}",
        *http,
        *([refused] if sources and reaches(release, _MODERN) else []),
        f"\tbalance {rule.algorithm}",
        *servers,
    ]


def _stats(address: IPv4Address) -> str:
    lines = [
        "",
        "listen stats_on_public",
        f"\tbind {address}:{STATS_PORT}",
        "\tmode http",
        "\toption httpclose",
        "\tstats enable",
        "\tstats uri     /admin?stats",
        "\tstats realm   Haproxy\\ Statistics",
        "\tstats auth    admin1:AdMiN123",
        "",
    ]
    return "\n".join(lines)
