"""The sockets that programs listen on, as the kernel lists them in ``/proc/net``: the proof that a daemon is there.

A connection would prove less: the firewall of an address may well refuse one from the VM itself.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Iterable, List, Set, Tuple

from . import system
from .errors import Failed

Place = Tuple[str, int]

TCP, UDP = Path("/proc/net/tcp"), Path("/proc/net/udp")
# State of a listening TCP socket, and of a UDP socket that takes packets from anywhere.
_LISTEN = {TCP: "0A", UDP: "07"}
# A busy emulated router was seen to need seven seconds; the server gives a rule set two minutes.
READY_SECONDS = 30.0


def parse(text: str, state: str = _LISTEN[TCP]) -> Set[Place]:
    """Return the addresses and ports of the sockets in a state, out of the text of ``/proc/net/tcp`` or ``udp``."""
    found = set()
    for line in text.split("\n")[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == state:
            address, port = words[1].split(":")
            number = struct.unpack("=I", bytes.fromhex(address))[0]
            found.add((socket.inet_ntoa(struct.pack(">I", number)), int(port, 16)))
    return found


def listening(table: Path = TCP) -> Set[Place]:
    """Return the addresses and ports that programs listen on."""
    return parse(table.read_text(), _LISTEN[table])


def missing(places: Iterable[Place], table: Path = TCP) -> List[Place]:
    """Return the places that nobody listens on; a socket of all addresses serves each of them."""
    found = listening(table)
    return sorted(place for place in places if not {place, ("0.0.0.0", place[1])} & found)


def spelled(places: Iterable[Place]) -> str:
    """Return places as words."""
    return ", ".join(f"{address}:{port}" for address, port in places)


def await_listeners(program: str, places: Iterable[Place], table: Path = TCP) -> None:
    """Wait until a program listens everywhere.

    Raises:
        Failed: it does not within ``READY_SECONDS``.
    """
    wanted = list(places)
    if not system.wait_for(lambda: not missing(wanted, table), READY_SECONDS):
        raise Failed(f"{program} does not listen on {spelled(missing(wanted, table))}")
