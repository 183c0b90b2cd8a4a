"""The load balancer: checked first, then reloaded, so that established connections stay."""

from __future__ import annotations

import re
import socket
from functools import partial
from pathlib import Path
from typing import List, Tuple

from .. import system
from ..errors import Failed, Refused
from ..state import State

KINDS = frozenset({"loadbalancer"})
CONFIG = Path("/etc/haproxy/haproxy.cfg")
SHARED = "/etc/haproxy/conf.d"
UNIT = "haproxy.service"
_CANDIDATE = Path("/run/cloud/haproxy.cfg.candidate")
_BIND = re.compile(r"^\s*bind\s+(\d+\.\d+\.\d+\.\d+):(\d+)\b", re.MULTILINE)

# haproxy does not start without a listener.
IDLE = """# Replaced by the load-balancer rules. haproxy does not start without a listener: this one serves nothing.
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
        Refused: haproxy would not start with it.
    """
    text = render(state)
    if not _concerned(state) or system.read_text(CONFIG) == text:
        return
    system.write_text(_CANDIDATE, text)
    try:
        system.run(["haproxy", "-c", "-q", "-f", SHARED, "-f", str(_CANDIDATE)])
    except Failed as error:
        raise Refused(f"loadbalancer: haproxy refuses the configuration: {error}") from None
    finally:
        _CANDIDATE.unlink()


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
    known = set(listeners(before))
    for address, port in listeners(text):
        if (address, port) not in known and not system.wait_for(partial(_answers, address, port), 5):
            raise Failed(f"haproxy does not listen on {address}:{port} after its reload")


def _answers(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address if address != "0.0.0.0" else "127.0.0.1", port)) == 0
