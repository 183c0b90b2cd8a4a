"""A client of DHCPv6, for machines that have none: prints the address and the resolver that it is given, or nothing.

``python3 dhcp6.py INTERFACE DUID``; the identity is written as management writes it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator

SOLICIT, ADVERTISE, REQUEST, REPLY = 1, 2, 3, 7
CLIENT, SERVER, ASSOCIATION, ADDRESS, WANTED, DNS = 1, 2, 3, 5, 6, 23
EVERY_SERVER = "ff02::1:2"


def option(code: int, data: bytes) -> bytes:
    """Return one option."""
    return struct.pack(">HH", code, len(data)) + data


def options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield code and content of each option."""
    while data:
        code, length = struct.unpack(">HH", data[:4])
        yield code, data[4 : 4 + length]
        data = data[4 + length :]


def ask(link: socket.socket, kind: int, answer: int, more: bytes) -> dict[int, bytes]:
    """Return the options of the answer to a question; empty when there is none."""
    head = bytes([kind]) + b"own"
    for _ in range(3):
        link.sendto(head + more, (EVERY_SERVER, 547))
        try:
            data = link.recv(1500)
        except TimeoutError:
            continue
        if data[:4] == bytes([answer]) + b"own":
            return dict(options(data[4:]))
    return {}


def main() -> None:
    """Ask for an address, and take it."""
    device, duid = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
    link = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    link.settimeout(1)
    link.bind(("::", 546))
    me = option(CLIENT, duid) + option(WANTED, struct.pack(">H", DNS))
    offered = ask(link, SOLICIT, ADVERTISE, me + option(ASSOCIATION, bytes(12)))
    if SERVER not in offered or ASSOCIATION not in offered:
        return
    taken = me + option(SERVER, offered[SERVER]) + option(ASSOCIATION, offered[ASSOCIATION])
    given = ask(link, REQUEST, REPLY, taken)
    for code, data in options(given.get(ASSOCIATION, b"")[12:]):
        if code == ADDRESS:
            servers = given.get(DNS, b"")[:16]
            print(ipaddress.IPv6Address(data[:16]), ipaddress.IPv6Address(servers) if servers else "")


if __name__ == "__main__":
    main()
