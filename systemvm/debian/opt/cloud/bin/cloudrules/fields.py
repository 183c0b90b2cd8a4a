"""Checks of single fields of a databag. Each returns the value in its normal form or raises Refused."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Dict, List, Mapping, Tuple

from .errors import Refused

Check = Callable[[Any], Any]

_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def address(value: Any) -> str:
    """Accept an IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise Refused(f"not an IPv4 address: {value!r}") from None


def any_address(value: Any) -> str:
    """Accept an IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise Refused(f"not an address: {value!r}") from None


def network(value: Any) -> str:
    """Accept an IPv4 network or address; the host bits are cleared."""
    try:
        return str(ipaddress.IPv4Network(value, strict=False))
    except ValueError:
        raise Refused(f"not an IPv4 network: {value!r}") from None


def any_network(value: Any) -> str:
    """Accept an IPv4 or IPv6 network."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise Refused(f"not a network: {value!r}") from None


def netmask(value: Any) -> int:
    """Accept a netmask, dotted or as a number of bits; return the number of bits."""
    try:
        return ipaddress.IPv4Network(f"0.0.0.0/{value}").prefixlen
    except ValueError:
        raise Refused(f"not a netmask: {value!r}") from None


def mac(value: Any) -> str:
    """Accept a MAC address."""
    if isinstance(value, str) and _MAC.fullmatch(value.lower()):
        return value.lower()
    raise Refused(f"not a MAC address: {value!r}")


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


def text(value: Any) -> str:
    """Accept one line of text."""
    if isinstance(value, str) and not any(ord(c) < 32 for c in value):
        return value
    raise Refused(f"not one line of text: {value!r}")


def boolean(value: Any) -> bool:
    """Accept true or false, as JSON or as a word."""
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise Refused(f"neither true nor false: {value!r}")


def integer(low: int, high: int) -> Check:
    """Accept a whole number between two bounds."""

    def check(value: Any) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = low - 1
        if isinstance(value, bool) or not low <= number <= high:
            raise Refused(f"not a whole number from {low} to {high}: {value!r}")
        return number

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


def each(check: Check) -> Check:
    """Accept a list whose members all pass."""

    def check_list(value: Any) -> List[Any]:
        if not isinstance(value, list):
            raise Refused(f"not a list: {value!r}")
        return [check(member) for member in value]

    return check_list


def record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """Accept an object with these fields; fields without a check are dropped, null counts as absent."""

    def check_record(value: Any) -> Dict[str, Any]:
        if not isinstance(value, dict):
            raise Refused(f"not an object: {value!r}")
        found = {}
        for key, check in list(required.items()) + list(optional.items()):
            if value.get(key) is None:
                if key in required:
                    raise Refused(f"the field {key!r} is missing")
                continue
            try:
                found[key] = check(value[key])
            except Refused as error:
                raise Refused(f"{key}: {error}") from None
        return found

    return check_record


def pair(value: Any) -> Tuple[int, int]:
    """Accept a list of the first and the last port."""
    if not isinstance(value, list) or len(value) != 2:
        raise Refused(f"not a pair of ports: {value!r}")
    first, last = port(value[0]), port(value[1])
    if first > last:
        raise Refused(f"not a port range: {value!r}")
    return first, last
