"""Checks of single fields of a databag. Each returns the value in its normal form or raises Refused."""

from __future__ import annotations

import ipaddress
import re
import string
import unicodedata
from typing import Any, Callable, List, Tuple

from .errors import Refused

Check = Callable[[Any], Any]

_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_DUID = re.compile(r"(?:[0-9a-f]{2}:){2,128}[0-9a-f]{2}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_WORD = frozenset(string.ascii_letters + string.digits + "._-")
# Control characters, half surrogates, line and paragraph separators.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")


def _plain(value: Any) -> str:
    """Return the text of an address. The classes of ``ipaddress`` take numbers, too, and any text behind a ``%``."""
    if isinstance(value, str) and "%" not in value and value.isascii():
        return value
    raise ValueError


def address(value: Any) -> str:
    """Accept an IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(_plain(value)))
    except ValueError:
        raise Refused(f"not an IPv4 address: {value!r}") from None


def address6(value: Any) -> str:
    """Accept an IPv6 address."""
    try:
        return str(ipaddress.IPv6Address(_plain(value)))
    except ValueError:
        raise Refused(f"not an IPv6 address: {value!r}") from None


def any_address(value: Any) -> str:
    """Accept an IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(_plain(value)))
    except ValueError:
        raise Refused(f"not an address: {value!r}") from None


def network(value: Any) -> str:
    """Accept an IPv4 network or address; the host bits are cleared."""
    try:
        return str(ipaddress.IPv4Network(_plain(value), strict=False))
    except ValueError:
        raise Refused(f"not an IPv4 network: {value!r}") from None


def network6(value: Any) -> str:
    """Accept an IPv6 network or address; the host bits are cleared."""
    try:
        return str(ipaddress.IPv6Network(_plain(value), strict=False))
    except ValueError:
        raise Refused(f"not an IPv6 network: {value!r}") from None


def any_network(value: Any) -> str:
    """Accept an IPv4 or IPv6 network."""
    try:
        return str(ipaddress.ip_network(_plain(value), strict=False))
    except ValueError:
        raise Refused(f"not a network: {value!r}") from None


def joined(check: Check) -> Check:
    """Accept what ``check`` accepts, several of them joined by commas; blanks and empty members are left out."""

    def check_joined(value: Any) -> str:
        if not isinstance(value, str):
            raise Refused(f"not text: {value!r}")
        return ",".join(check(member.strip()) for member in value.split(",") if member.strip())

    return check_joined


def cidr_list(value: Any) -> List[str]:
    """Accept IPv4 networks as a list or joined by commas; no network at all is an empty list."""
    members = value.split(",") if isinstance(value, str) else value
    if not isinstance(members, list):
        raise Refused(f"not a list of networks: {value!r}")
    return [network(member) for member in members if member != ""]


def netmask(value: Any) -> int:
    """Accept a netmask, dotted or as a number of bits; return the number of bits."""
    try:
        return ipaddress.IPv4Network(_plain(f"0.0.0.0/{value}")).prefixlen
    except ValueError:
        raise Refused(f"not a netmask: {value!r}") from None


def mac(value: Any) -> str:
    """Accept a MAC address."""
    if isinstance(value, str) and _MAC.fullmatch(value.lower()):
        return value.lower()
    raise Refused(f"not a MAC address: {value!r}")


def duid(value: Any) -> str:
    """Accept the identity of a DHCPv6 client: bytes, joined by colons."""
    if isinstance(value, str) and _DUID.fullmatch(value.lower()):
        return value.lower()
    raise Refused(f"not the identity of a DHCPv6 client: {value!r}")


def host(value: Any) -> str:
    """Accept a host or domain name."""
    if isinstance(value, str) and _HOST.fullmatch(value):
        return value
    raise Refused(f"not a host name: {value!r}")


def name(value: Any) -> str:
    """Accept a name that is safe as a file name."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise Refused(f"not a plain name: {value!r}")


def word(value: Any) -> str:
    """Accept letters, digits, dots, dashes and underscores, as many as there are."""
    if isinstance(value, str) and value and not set(value) - _WORD:
        return value
    raise Refused(f"not a word: {value!r}")


def _is_text(value: Any, allowed: str = "") -> bool:
    """Whether a value is text without control characters (C0, C1, line and paragraph separators, half surrogates)."""
    if not isinstance(value, str):
        return False
    return all(char in allowed or unicodedata.category(char) not in _UNSAFE for char in value)


def text(value: Any) -> str:
    """Accept one line of text, whatever a program that reads it takes for the end of a line."""
    if _is_text(value):
        return str(value)
    raise Refused(f"not one line of text: {value!r}")


def content(value: Any) -> str:
    """Accept the content of a file: any text that UTF-8 can hold."""
    if isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value):
        return value
    raise Refused(f"not text: {value!r}")


def lines(value: Any) -> str:
    """Accept lines of a configuration file: tabs and line feeds beside plain text."""
    if _is_text(value, "\t\n"):
        return str(value)
    raise Refused(f"not lines of text: {value!r}")


def pem(value: Any) -> str:
    """Accept PEM texts; every line ends with a line feed afterwards, whatever it ended with before."""
    if not _is_text(value, "\r\n") or not value.isascii() or "-----BEGIN " not in value:
        raise Refused("not a PEM text")
    found = [line.strip() for line in value.replace("\r", "\n").split("\n")]
    return "".join(line + "\n" for line in found if line)


def file_name(value: Any) -> str:
    """Accept the name of a metadata file: any text that is no path and not hidden, at most 255 bytes."""
    if (
        not _is_text(value)
        or not value
        or value[0] == "."
        or "/" in value
        or len(value.encode("utf-8")) > 255
    ):
        raise Refused(f"not a plain name: {value!r}")
    return str(value)


def listener(value: Any) -> str:
    """Accept ``address:port:`` of a load balancer, with a source network and a comma behind it for statistics.

    An empty text stands for no listener.
    """
    if value == "":
        return ""
    where, number, sources = [*str(value).split(":"), "", ""][:3]
    networks = [_source(source) for source in sources.split(",") if source]
    return "{}:{}:{}".format(any_destination(where), port(number), ",".join(networks))


def any_destination(value: Any) -> str:
    """Accept an IPv4 address; ``0.0.0.0/0`` stands for every address."""
    return "0.0.0.0/0" if value == "0.0.0.0/0" else address(value)


def _source(value: str) -> str:
    return "0.0.0.0/0" if value == "0/0" else network(value)


def boolean(value: Any) -> bool:
    """Accept true or false, as JSON or as a word."""
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise Refused(f"neither true nor false: {value!r}")


def integer(low: int, high: int) -> Check:
    """Accept a whole number between two bounds."""

    def check(value: Any) -> int:
        whole = (
            isinstance(value, (int, str)) and not isinstance(value, bool) and _NUMBER.fullmatch(str(value))
        )
        if not whole or not low <= int(value) <= high:
            raise Refused(f"not a whole number from {low} to {high}: {value!r}")
        return int(value)

    return check


port = integer(0, 65535)


def ports(value: Any) -> str:
    """Accept ``first:last`` or one port; return ``first:last``."""
    first, _, last = str(value).partition(":")
    low, high = port(first), port(last or first)
    if low > high:
        raise Refused(f"not a port range: {value!r}")
    return f"{low}:{high}"


def choice(*words: str) -> Check:
    """Accept one of the given words in any case; return it in lower case."""

    def check(value: Any) -> str:
        word = value.lower() if isinstance(value, str) else value
        if word not in words:
            known = ", ".join(words)
            raise Refused(f"not one of {known}: {value!r}")
        return word

    return check


def pair(value: Any) -> Tuple[int, int]:
    """Accept a list of the first and the last port."""
    if not isinstance(value, list) or len(value) != 2:
        raise Refused(f"not a pair of ports: {value!r}")
    first, last = port(value[0]), port(value[1])
    if first > last:
        raise Refused(f"not a port range: {value!r}")
    return first, last
