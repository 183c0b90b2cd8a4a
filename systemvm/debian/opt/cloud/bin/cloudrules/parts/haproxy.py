"""The load balancer: checked first, then reloaded, so that established connections stay."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path
from typing import List, Set, Tuple

from .. import system
from ..errors import Failed, Refused
from ..state import State

KINDS = frozenset({"loadbalancer"})
CONFIG = Path("/etc/haproxy/haproxy.cfg")
SHARED = "/etc/haproxy/conf.d"
UNIT = "haproxy.service"
_CANDIDATE = Path("/run/cloud/haproxy.cfg.candidate")
SOCKETS = Path("/proc/net/tcp")
_LISTEN = "0A"
# A busy emulated router was seen to need seven seconds; the server gives a rule set two minutes.
READY_SECONDS = 30
_BIND = re.compile(r"^\s*bind\s+(\d+\.\d+\.\d+\.\d+):(\d+)\b", re.MULTILINE)

IDLE = """# Replaced by the load-balancer rules. haproxy does not start without a listener: this one serves nothing.
global
    user haproxy
    group haproxy

listen cloud-default
    bind 0.0.0.0:35999
"""


def render(state: State) -> str:
    """Return the text of haproxy.cfg: the lines as management sent them, or the idle one."""
    lines = [line for row in state.bag("loadbalancer").get("config", []) for line in row["configuration"]]
    return "\n".join(lines) + "\n" if any(line.strip() for line in lines) else IDLE


def listeners(text: str) -> List[Tuple[str, int]]:
    """Return the addresses and ports that a configuration listens on."""
    return [(address, int(port)) for address, port in _BIND.findall(text)]


def _concerned(state: State) -> bool:
    # Before the first rule the file is whatever the payload or a former boot left there.
    return "config" in state.bag("loadbalancer")


def check(state: State) -> None:
    """Let haproxy read the new configuration.

    Raises:
        Refused: haproxy would not start with it, or could not listen.
    """
    text, before = render(state), system.read_text(CONFIG) or ""
    if not _concerned(state) or before == text:
        return
    _refuse_occupied(set(listeners(text)) - set(listeners(before)))
    system.write_text(_CANDIDATE, text)
    try:
        system.run(["haproxy", "-c", "-f", SHARED, "-f", str(_CANDIDATE)])
    except Failed as error:
        raise Refused(f"loadbalancer: haproxy refuses the configuration: {complaints(str(error))}") from None
    finally:
        _CANDIDATE.unlink()


def _refuse_occupied(new: Set[Tuple[str, int]]) -> None:
    occupied = listening(SOCKETS.read_text())
    taken = sorted(
        (address, port) for address, port in new if {(address, port), ("0.0.0.0", port)} & occupied
    )
    if taken:
        raise Refused(f"loadbalancer: another program listens on {_spelled(taken)}")


def _spelled(pairs: List[Tuple[str, int]]) -> str:
    return ", ".join(f"{address}:{port}" for address, port in pairs)


def complaints(output: str) -> str:
    """Return the lines that say what is wrong, out of all that haproxy says."""
    lines = [line.partition("config : ")[2] for line in output.splitlines() if line.startswith("[ALERT]")]
    found = [line for line in lines if line and "already specified" not in line]
    return "; ".join(found) or output


def apply(state: State) -> None:
    """Write the configuration and reload haproxy if it differs; make sure that every new listener answers."""
    if not _concerned(state):
        return
    before, text = system.read_text(CONFIG) or "", render(state)
    if not system.write_text(CONFIG, text) or state.booting:
        return
    if system.unit_active(UNIT):
        system.unit("reload", UNIT)
    else:
        system.unit("start", UNIT)
    if not state.primary:
        return  # the addresses are the other router's, so nothing can answer here
    new = set(listeners(text)) - set(listeners(before))
    if not system.wait_for(lambda: new <= listening(SOCKETS.read_text()), READY_SECONDS):
        missing = sorted(new - listening(SOCKETS.read_text()))
        raise Failed(f"haproxy does not listen on {_spelled(missing)} after its reload")


def listening(sockets: str) -> Set[Tuple[str, int]]:
    """Return the addresses and ports that programs listen on, out of the text of ``/proc/net/tcp``.

    A connection would prove less: the firewall of a public address may well refuse one from the router itself.
    """
    found = set()
    for line in sockets.splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTEN:
            address, port = words[1].split(":")
            number = struct.unpack("=I", bytes.fromhex(address))[0]
            found.add((socket.inet_ntoa(struct.pack(">I", number)), int(port, 16)))
    return found
