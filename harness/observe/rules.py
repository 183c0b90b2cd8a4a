"""The rule sets of a router in canonical form: lines that differ only when the network does."""

from __future__ import annotations

import csv
import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from harness.guest import documents
from harness.guest.collect import ABSENT, Section, of_file, of_paths, of_program

# Speaks to haproxy's socket with what the guest has: a router need not have socat, and an old one no Python 3.
_ASK = (
    "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect('/run/haproxy/admin.sock');"
    "s.sendall('show stat;show servers state\\n'.encode());o=getattr(sys.stdout,'buffer',sys.stdout);"
    "[o.write(b) for b in iter(lambda:s.recv(65536),b'')]"
)
# It binds another name and renames it. A socket stays behind when its program has ended; then nobody accepts.
_LISTENS = r"^[^ ]* [^ ]* [^ ]* 00010000 .* /run/haproxy/admin\.sock"
_COUNTERS = re.compile(r"\[\d+:\d+\]")
# Values of "ip -j" that change by themselves.
_PASSING = {
    "valid_life_time",
    "preferred_life_time",
    "expires",
    "stats",
    "stats64",
    "age",
    "used",
    "nhid",
}
# What the kernel draws by lot for each set that is made.
_DRAWN = re.compile(r" initval 0x[0-9a-f]+\b")
# Of a lease: MAC address, address, name, client id; the time before them is left out.
_LEASE_FIELDS = 4
_WWW = "/var/www/html"
# Every line of the files that it gets, behind the file's name; 1 says that they are all empty.
_LINES = """grep -r '' "$@" || [ $? -eq 1 ]"""


@dataclass(frozen=True)
class RuleSet:
    """One rule set. ``lines`` is None where the guest has none: the program, or what it asks, is missing."""

    name: str
    lines: tuple[str, ...] | None


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` reads, one a rule set."""
    # One program for both questions: under emulation, a Python takes a second to start.
    ask = (
        f"grep -q '{_LISTENS}' /proc/net/unix || exit {ABSENT}; "
        "if command -v socat >/dev/null; then echo 'show stat;show servers state' | "
        "socat -t 5 - UNIX:/run/haproxy/admin.sock; exit; fi; "
        f"for p in python3 python python2; do command -v $p >/dev/null && exec $p -c {shlex.quote(_ASK)}; done; "
        "exit 127"
    )
    return {
        "rules.iptables": "iptables-save",
        "rules.ip6tables": of_program("ip6tables-save", "ip6tables-save"),
        "rules.ipset": of_program("ipset", "ipset save"),
        "rules.nft": of_program("nft", "nft -s list ruleset || nft list ruleset"),
        "rules.addresses": "ip -j addr || ip -o addr",
        "rules.routes": "ip -j route show table all || ip route show table all",
        "rules.policy": "ip -j rule || ip rule",
        # A kernel without IPv6 has no such rules, and says so by a failure.
        "rules.policy6": f"[ -e /proc/net/if_inet6 ] || exit {ABSENT}; ip -6 -j rule || ip -6 rule",
        "rules.neighbours": "ip neigh show nud permanent && ip neigh show proxy",
        "rules.xfrm": "ip xfrm policy && ip xfrm state",
        # One program for all devices: under emulation, to start one takes as long as all that it does.
        "rules.shaping": (
            "{ echo qdisc show; for d in /sys/class/net/*; do d=${d##*/}; "
            'printf "%s\\n" "class show dev $d" "filter show dev $d" "filter show dev $d ingress"; done; } '
            "| tc -batch -"
        ),
        # Asked only where the kernel has such tables: to ask would load their modules.
        "rules.legacy": (
            "for v in ip ip6; do [ -s /proc/net/${v}_tables_names ] || continue; "
            'echo "# $v"; ${v}tables-legacy-save || exit; done'
        ),
        "rules.haproxy": ask,
        "rules.dhcp-hosts": of_file("/etc/dhcphosts.txt"),
        "rules.leases": of_file("/var/lib/misc/dnsmasq.leases"),
        "rules.dns": of_file("/etc/hosts"),
        "rules.dnsmasq": of_paths(("/etc/dnsmasq.d", "/etc/dnsmasq.conf"), _LINES),
        "rules.metadata": f"cd {_WWW} 2>/dev/null || exit {ABSENT}; "
        + of_paths(
            ("userdata", "metadata"), 'find "$@" -type f -print0 | sort -z | xargs -0 -r sha256sum --'
        ),
        "rules.metadata-access": f"cd {_WWW} 2>/dev/null || exit {ABSENT}; "
        + of_paths(("latest/.htaccess",), _LINES),
        "rules.remembered": of_file("/etc/cloudstack/ips.json"),
        "rules.vpn": of_paths(("/etc/ipsec.d", "/etc/ipsec.secrets", "/etc/ppp/chap-secrets"), _LINES),
    }


def parse(sections: Mapping[str, Section]) -> dict[str, RuleSet]:
    """Turn the outputs of :func:`commands` into rule sets by short name (``iptables``, ``routes``, …)."""
    found = {}
    clock = sections.get("kernel.clock")
    now = float(clock.text) if clock and clock.status == 0 else 0.0
    haproxy = sections.get("rules.haproxy")
    if haproxy is not None:
        stat, servers = split_haproxy(haproxy.text)
        parts = {"rules.haproxy": stat, "rules.haproxy-servers": servers}
        sections = {
            **sections,
            **{
                name: replace(haproxy, output=text.encode("utf-8", "surrogateescape"))
                for name, text in parts.items()
            },
        }
    for name, section in sections.items():
        short = name.removeprefix("rules.")
        if name.startswith("rules."):
            canonical = (
                partial(canonical_leases, now=now) if short == "leases" else _CANONICAL.get(short, _sorted)
            )
            found[short] = RuleSet(short, tuple(canonical(section.text)) if section.status == 0 else None)
    return found


def compare(before: RuleSet, after: RuleSet) -> list[str]:
    """Return a readable diff of two rule sets: ``-`` for what is gone, ``+`` for what is new; empty when equal."""
    if before.lines == after.lines:
        return []
    if before.lines is None or after.lines is None:
        sign, lines = ("+", after.lines) if before.lines is None else ("-", before.lines)
        return [f"{sign} {line}" for line in lines or ()] or [f"{sign} {before.name}, which is empty"]
    old, new = before.lines, after.lines
    if before.name == "leases":
        old, new = _without_unknown_clients(old, new), _without_unknown_clients(new, old)
    if before.name == "remembered":
        new = _of_known(old, new)
    changes = difflib.ndiff(old, new)
    return [line for line in changes if line.startswith(("- ", "+ "))]


def _of_known(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """Return the lines without what is told of the same addresses for the first time: a newer release tells more."""
    known = {line.partition(" = ")[0] for line in old}
    addresses = {line.partition(": ")[0] for line in old}
    return tuple(
        line for line in new if line.partition(" = ")[0] in known or line.partition(": ")[0] not in addresses
    )


def canonical_iptables(text: str) -> list[str]:
    """Return ``iptables-save`` lines without comments and counters, tables and chains sorted, rules in order.

    The order of rules inside a chain decides what happens to a packet and is kept; the order in which chains are
    declared does not.
    """
    tables: dict[str, dict[str, list[str]]] = {}
    table: dict[str, list[str]] = {}
    for line in text.splitlines():
        plain = " ".join(_COUNTERS.sub("", line).split())
        if plain.startswith("*"):
            table = tables.setdefault(plain, {})
        elif plain.startswith(":"):
            table.setdefault(plain[1:].split()[0], []).insert(0, plain)
        elif plain.startswith("-A "):
            table.setdefault(plain.split()[1], []).append(plain)
    return [
        f"{name[1:]}: {line}"
        for name, chains in sorted(tables.items())
        for chain in sorted(chains)
        for line in chains[chain]
    ]


def canonical_ip(text: str) -> list[str]:
    """Return sorted lines in words of what ``ip -j`` prints, values that pass left out; text stays text."""
    try:
        rows = documents.parse(text)
    except ValueError:
        return _sorted(re.sub(r"(valid_lft|preferred_lft|expires) \S+", r"\1 -", text))
    return sorted(line for row in rows if row for line in _ip_lines(row))


def _ip_lines(row: Mapping[str, object]) -> Iterator[str]:
    """Yield an object of ``ip -j addr``, ``route`` or ``rule`` in words: an interface has a line an address, too."""
    rest = dict(row)
    addresses = rest.pop("addr_info", None)
    if isinstance(addresses, list):
        name = rest.pop("ifname", "?")
        if rest:
            yield f"interface {name}: {_words(rest)}"
        for address in addresses:
            local, length = address.pop("local", "?"), address.pop("prefixlen", "?")
            yield f"interface {name} has address {local}/{length}: {_words(address)}"
    elif "priority" in rest and "src" in rest:
        yield f"rule {rest.pop('priority')}: {_words(rest)}"
    elif "dst" in rest:
        yield f"route to {rest.pop('dst')}: {_words(rest)}"
    else:
        yield _words(rest)


def _words(value: object) -> str:
    if isinstance(value, dict):
        known = sorted(
            (key, item) for key, item in value.items() if key not in _PASSING and item not in ([], {})
        )
        return ", ".join(key if item is None else f"{key} {_words(item)}" for key, item in known)
    if isinstance(value, list):
        return " and ".join(map(_words, value))
    return str(value)


def split_haproxy(text: str) -> tuple[str, str]:
    """Return the answers to ``show stat`` and ``show servers state``, which haproxy separates by an empty line."""
    stat, _, servers = text.partition("\n\n")
    return stat, servers.strip("\n")


def canonical_stat(text: str) -> list[str]:
    """Return proxy, server, kind of each row of haproxy's ``show stat``, and which was stopped; no counters."""
    rows = csv.DictReader(text.lstrip("# ").splitlines())
    return sorted(
        " ".join(
            word
            for word in (
                row["pxname"],
                row["svname"],
                row.get("mode"),
                "stopped" if row.get("status") == "STOP" else "",
            )
            if word
        )
        for row in rows
    )


def canonical_servers(text: str) -> list[str]:
    """Return backend, server, address, port and weight of each row of haproxy's ``show servers state``."""
    lines = [line.split() for line in text.splitlines()[1:]]
    head = next((line[1:] for line in lines if line[:1] == ["#"]), [])
    wanted = [
        head.index(name)
        for name in ("be_name", "srv_name", "srv_addr", "srv_port", "srv_uweight")
        if name in head
    ]
    told = head.index("srv_admin_state") if "srv_admin_state" in head else len(text)
    # haproxy before 2.4 lists its own former workers as servers of a proxy MASTER, named after their process ids.
    rows = [line for line in lines if line and line[0] != "#" and "MASTER" not in line[:2]]
    return sorted(
        " ".join([*(row[index] for index in wanted if index < len(row)), *_taken_out(row[told : told + 1])])
        for row in rows
    )


def _taken_out(state: list[str]) -> list[str]:
    """Return words for the administrative state of a server: bits 0 to 2 are maintenance, 3 and 4 a drain."""
    bits = int(state[0], 0) if state and state[0].isdigit() else 0
    return ["in maintenance"] * bool(bits & 0b00111) + ["drained"] * bool(bits & 0b11000)


def canonical_leases(text: str, now: float = 0.0) -> list[str]:
    """Return the leases without the time at which they end; 0 stands for never, and one that is over says so."""
    rows = (line.split() for line in text.splitlines())
    return sorted(
        " ".join([*row[1:], *(["is over"] if row[0].isdigit() and 0 < int(row[0]) < now else [])])
        for row in rows
        if row
    )


def _without_unknown_clients(lines: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return leases with ``*`` for the client id where the other side does not know it.

    dnsmasq writes the id that a client told it; CloudStack's own scripts write the file without.
    """
    unknown = {line for line in others if line.endswith(" *")}
    found = []
    for line in lines:
        lease = line.split()
        plain = " ".join([*lease[:-1], "*"])
        found.append(plain if len(lease) == _LEASE_FIELDS and plain in unknown else line)
    return tuple(found)


def canonical_ipset(text: str) -> list[str]:
    """Return sets and members of ``ipset save`` without what is drawn by lot when a set is made."""
    return _sorted(_DRAWN.sub("", text))


def doubled(rules: RuleSet) -> list[str]:
    """Return the lines of a rule set that stand there more than once."""
    lines = rules.lines or ()
    return sorted({line for line in lines if lines.count(line) > 1})


def _sorted(text: str) -> list[str]:
    return sorted(line.rstrip() for line in text.splitlines() if line.strip())


def _in_order(text: str) -> Iterable[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _in_order_without_counters(text: str) -> Iterable[str]:
    return [line for line in _in_order(_COUNTERS.sub("", text)) if not line.startswith("# ")]


def canonical_xfrm(text: str) -> list[str]:
    """Return whom IPsec policies and associations are between, and the way that they are for.

    Keys, numbers and ages are drawn anew each time that a tunnel is; nobody needs to see the keys. While they are, the
    old association and the new one are both there.
    """
    lines = (" ".join(line.split()) for line in text.splitlines())
    return sorted({line for line in lines if line.startswith(("src ", "dir ", "tmpl ", "socket "))})


def canonical_shaping(text: str) -> list[str]:
    """Return queues and filters of ``tc`` without how many use them, and without numbers that the kernel gave."""
    return _sorted(re.sub(r" refcnt \d+| handle 0x[0-9a-f]+|(?<=parent )[89a-f][0-9a-f]{3}(?=:)", "", text))


def canonical_remembered(text: str) -> list[str]:
    """Return what CloudStack's scripts remember of each address: device, address, and one property a line."""
    try:
        told = documents.parse(text)
        found = [
            f"{device} {entry.get('public_ip')}: {key} = {value}"
            for device, entries in told.items()
            if isinstance(entries, list)
            for entry in entries
            for key, value in entry.items()
        ]
    except (ValueError, AttributeError):
        return [f"unreadable: {text[:200]!r}"]
    return sorted(found)


_CANONICAL: dict[str, Callable[[str], Iterable[str]]] = {
    "iptables": canonical_iptables,
    "ip6tables": canonical_iptables,
    "ipset": canonical_ipset,
    "nft": _in_order,
    "legacy": _in_order_without_counters,
    "shaping": canonical_shaping,
    "xfrm": canonical_xfrm,
    "addresses": canonical_ip,
    "routes": canonical_ip,
    "policy": canonical_ip,
    "policy6": canonical_ip,
    "haproxy": canonical_stat,
    "haproxy-servers": canonical_servers,
    "metadata-access": _in_order,
    "remembered": canonical_remembered,
}
