"""Passwords that VMs fetch once, and the server that hands them out on each guest network.

Proof: the server of every guest network listens on port 8080 of its address.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

from .. import passwordfile, sockets, system
from ..errors import Refused
from ..state import State

KINDS = frozenset({"vmpassword", "vmdata", "guestnetwork", "ipaliases"})
PORT = 8080
# One file for each server that was started, so that the ones of networks that are gone can be stopped.
_STARTED = Path("/run/cloud/password-servers")


def _unit(server: str) -> str:
    return f"cloud-password-server@{server}.service"


def _new_passwords(state: State) -> List[Tuple[str, str]]:
    """Return the passwords of the messages; the one in a databag may have been fetched long ago."""
    found = [(message["ip_address"], message["password"]) for message in state.of("vmpassword")]
    for message in state.of("vmdata"):
        found += [
            (message["vm_ip_address"], row[2])
            for row in message["vm_metadata"]
            if row[0] == "password" and "vm_ip_address" in message
        ]
    return found


def _server(state: State, address: str) -> str:
    guest = state.topology.guest_of(address)
    if guest is None:
        raise Refused(f"vmpassword: {address} belongs to no guest network of this VM")
    return guest.server


def check(state: State) -> None:
    """Refuse the password of a VM that no guest network holds."""
    for address, _password in _new_passwords(state):
        _server(state, address)


def apply(state: State) -> None:
    """Run one server for each guest network and let the new passwords wait there."""
    if not state.topology.serves_guests:
        return
    for address, password in _new_passwords(state):
        passwordfile.put(_server(state, address), address, password)
    servers = [guest.server for guest in state.topology.guests]
    for server in servers:
        if state.booting or sockets.missing([(server, PORT)]):
            system.run(["systemctl", "start", "--no-block", _unit(server)])
        _STARTED.mkdir(parents=True, exist_ok=True)
        (_STARTED / server).touch()
    for mark in _STARTED.glob("*"):
        if mark.name not in servers:
            system.unit("stop", _unit(mark.name))
            mark.unlink()


def prove(state: State) -> None:
    """Wait until every server listens: a password that nobody hands out is none."""
    if state.topology.serves_guests:
        servers = [(guest.server, PORT) for guest in state.topology.guests]
        sockets.await_listeners("the password server", servers)
