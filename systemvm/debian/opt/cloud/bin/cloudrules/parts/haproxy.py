"""The load balancer: checked first, then reloaded, so that established connections stay.

Proof: haproxy listens on the address and port of every rule, as the kernel lists them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Dict, List, Set

from .. import sockets, system
from ..errors import Failed, Refused
from ..sockets import Place
from ..state import State

KINDS = frozenset({"loadbalancer"})
CONFIG = Path("/etc/haproxy/haproxy.cfg")
SHARED = "/etc/haproxy/conf.d"
UNIT = "haproxy.service"
_CANDIDATE = Path("/run/cloud/haproxy.cfg.candidate")
# The configuration names the files here; every one of them is made from the message, and what it does not name goes.
CERTIFICATES = Path("/etc/cloudstack/ssl")
_CANDIDATES = Path("/run/cloud/ssl.candidate")
_KEY = Path("/run/cloud/ssl.key")
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
    lines = [line for row in _rows(state) for line in "\n".join(row["configuration"]).split("\n")]
    # haproxy 2.4 and newer refuse the word that servers up to 4.17 use for what is httpclose today.
    lines = ["\toption httpclose" if line.strip() == "option forceclose" else line for line in lines]
    return "\n".join(lines) + "\n" if any(line.strip() for line in lines) else IDLE


def _rows(state: State) -> List[Dict[str, Any]]:
    return list(state.bag("loadbalancer").get("config", []))


def certificates(state: State) -> Dict[str, str]:
    """Return the PEM files by name: certificate, chain and key, as haproxy wants them in one file.

    Raises:
        Refused: the password of a key does not open it.
    """
    found = {}
    for row in _rows(state):
        for entry in row.get("ssl_certs", []):
            key = _opened(entry) if entry.get("password") else entry["key"]
            found[entry["name"] + ".pem"] = entry["cert"] + entry.get("chain", "") + key
    return found


def _opened(entry: Dict[str, Any]) -> str:
    """Return a key without its password: haproxy would ask a terminal for it."""
    system.write_text(_KEY, entry["key"], 0o600)
    try:
        command = ["openssl", "pkey", "-in", str(_KEY), "-passin", "stdin"]
        return system.run(command, stdin=entry["password"] + "\n")
    except Failed:
        raise Refused(f"loadbalancer: the key of {entry['name']} does not open with its password") from None
    finally:
        _KEY.unlink()


def listeners(text: str) -> List[Place]:
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
    if not _concerned(state):
        return
    text, before, pems = render(state), system.read_text(CONFIG) or "", certificates(state)
    if before == text and all(system.read_text(CERTIFICATES / name) == pem for name, pem in pems.items()):
        return
    _refuse_occupied(set(listeners(text)) - set(listeners(before)))
    for name, pem in pems.items():
        system.write_text(_CANDIDATES / name, pem, 0o600)
    system.write_text(_CANDIDATE, text.replace(f"{CERTIFICATES}/", f"{_CANDIDATES}/"))
    try:
        system.run(["haproxy", "-c", "-f", SHARED, "-f", str(_CANDIDATE)])
    except Failed as error:
        raise Refused(f"loadbalancer: haproxy refuses the configuration: {complaints(str(error))}") from None
    finally:
        _CANDIDATE.unlink()
        shutil.rmtree(str(_CANDIDATES), ignore_errors=True)


def _refuse_occupied(new: Set[Place]) -> None:
    occupied = sockets.listening()
    taken = sorted(
        (address, port) for address, port in new if {(address, port), ("0.0.0.0", port)} & occupied
    )
    if taken:
        raise Refused(f"loadbalancer: another program listens on {sockets.spelled(taken)}")


def complaints(output: str) -> str:
    """Return the lines that say what is wrong, out of all that haproxy says."""
    lines = [line.partition("config : ")[2] for line in output.splitlines() if line.startswith("[ALERT]")]
    found = [line for line in lines if line and "already specified" not in line]
    return "; ".join(found) or output


def apply(state: State) -> None:
    """Write certificates and configuration, and reload haproxy if any of them differs."""
    if not _concerned(state):
        return
    pems = certificates(state)
    changed = system.write_all({CERTIFICATES / name: pem for name, pem in pems.items()}, 0o600)
    changed = system.write_text(CONFIG, render(state)) or changed
    if not state.booting:
        if not system.unit_active(UNIT):
            system.unit("start", UNIT)
        elif changed:
            system.unit("reload", UNIT)
    # What was revoked goes last: haproxy holds the former files until it has read the new ones.
    for file in CERTIFICATES.glob("*"):
        if file.name not in pems:
            file.unlink()


def prove(state: State) -> None:
    """Wait until haproxy listens everywhere; on a standby the addresses are the other router's."""
    if _concerned(state) and state.primary:
        sockets.await_listeners("haproxy", listeners(render(state)))
