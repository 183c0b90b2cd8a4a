"""Passwords that VMs fetch once, and the server that hands them out on each guest network."""

from __future__ import annotations

from typing import List, Tuple

from .. import passwordfile, system
from ..errors import Refused
from ..state import State

KINDS = frozenset({"vmpassword", "vmdata", "guestnetwork"})


def _unit(server: str) -> str:
    return f"cloud-password-server@{server}.service"


def _new_passwords(state: State) -> List[Tuple[str, str]]:
    """Return the passwords of the messages; the one in a databag may have been fetched long ago."""
    found = [(message["ip_address"], message["password"]) for message in state.of("vmpassword")]
    for message in state.of("vmdata"):
        found += [
            (message["vm_ip_address"], row[2]) for row in message["vm_metadata"] if row[0] == "password"
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
    if state.everything or "guestnetwork" in state.kinds:
        for guest in state.topology.guests:
            if state.booting or not system.unit_active(_unit(guest.server)):
                system.run(["systemctl", "start", "--no-block", _unit(guest.server)])
