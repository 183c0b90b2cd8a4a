"""The load balancer's configuration, line by line as the management server sends it."""

from __future__ import annotations

from ipaddress import IPv4Address

from harness.network.model import LoadBalancer

# What a network offering allows when it says nothing else.
_MAX_CONNECTIONS = 4096
STATS_PORT = 8081
_HTTP_PORT = 80

_GLOBAL = (
    "global",
    "\tlog 127.0.0.1:3914 local0 warning",
    f"\tmaxconn {_MAX_CONNECTIONS}",
    f"\tmaxpipes {_MAX_CONNECTIONS // 4}",
    "\tchroot /var/lib/haproxy",
    "\tuser haproxy",
    "\tgroup haproxy",
    "\tstats socket /run/haproxy/admin.sock",
    "\tdaemon",
)
_DEFAULTS = (
    "defaults",
    "\tlog global",
    "\tmode tcp",
    "\toption dontlognull",
    "\tretries 3",
    "\toption redispatch",
    "\ttimeout connect 5000",
    "\ttimeout client 50000",
    "\ttimeout server 50000",
)


def configuration(rules: tuple[LoadBalancer, ...], stats_address: IPv4Address) -> list[str]:
    """Return the whole configuration as lines without line ends.

    Args:
        rules: the load-balancer rules; without any, a listener that nobody uses keeps haproxy alive.
        stats_address: where the statistics page listens.
    """
    lines = [*_GLOBAL, "", *_DEFAULTS, ""]
    for rule in rules:
        lines += [*_listener(rule), ""]
    if not rules:
        lines += ["listen vmops", "\tbind 0.0.0.0:9", ""]
    return lines + _stats(stats_address)


def pool_name(rule: LoadBalancer) -> str:
    """Return what haproxy calls a rule: ``192_0_2_10-80``."""
    return f"{str(rule.public).replace('.', '_')}-{rule.port}"


def _listener(rule: LoadBalancer) -> list[str]:
    name = pool_name(rule)
    http = ["\tmode http", "\toption httpclose"] if rule.port == _HTTP_PORT else []
    servers = [
        f"\tserver {name}_{number} {member.address}:{member.port} check"
        for number, member in enumerate(rule.members)
    ]
    return [
        f"listen {name}",
        f"\tbind {rule.public}:{rule.port}",
        *http,
        f"\tbalance {rule.algorithm}",
        *servers,
    ]


def _stats(address: IPv4Address) -> list[str]:
    return [
        "listen stats_on_private",
        f"\tbind {address}:{STATS_PORT}",
        "\tmode http",
        "\toption httpclose",
        "\tstats enable",
        "\tstats uri /admin?stats",
    ]
