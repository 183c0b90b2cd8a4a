"""User data and metadata: one web site for each guest network, one folder for each VM.

Proof: apache listens on port 80 of every guest network's address.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Dict, List

from .. import messages, sockets, system
from ..errors import Refused
from ..state import State

KINDS = frozenset({"vmdata", "guestnetwork", "ipaliases"})
TEMPLATE = Path("/etc/apache2/vhost.template")
SITES = Path("/etc/apache2/sites-enabled")
ROOT = Path("/var/www/html")
UNIT = "apache2.service"


def render_sites(template: str, servers: List[str]) -> Dict[str, str]:
    """Return the site files by name."""
    return {f"vhost-{server}.conf": template.replace("@ADDRESS@", server) for server in servers}


def render_vm(address: str, rows: List[List[Any]]) -> Dict[str, bytes]:
    """Return the files of one VM, by path below the web root; null makes an empty file, an empty text none.

    Raises:
        Refused: the user data is not base64.
    """
    files = {}
    names = []
    for folder, name, content in rows:
        if folder == "metadata":
            names.append(name)
        if content == "":
            continue
        text = content or ""
        try:
            data = messages.decode_user_data(text) if folder == "userdata" else text.encode("utf-8")
        except Refused as error:
            raise Refused(f"vmdata: {error} ({address})") from None
        files[f"{folder}/{address}/{name}"] = data
    files[f"metadata/{address}/meta-data"] = "\n".join(names).encode("utf-8") + b"\n"
    # Each VM sees its own data only, however it spells the path.
    only = f"Require ip {address}\n".encode("utf-8")
    for folder in sorted({path.split("/")[0] for path in files}):
        files[f"{folder}/{address}/.htaccess"] = only
    return files


def _concerned(state: State) -> List[str]:
    """Return the VMs whose files are looked at."""
    rows = state.bag("vmdata")
    if state.everything:
        return sorted(rows)
    return sorted({message["vm_ip_address"] for message in state.of("vmdata") if "vm_ip_address" in message})


def check(state: State) -> None:
    """Refuse user data that cannot be decoded."""
    rows = state.bag("vmdata")
    if any("vm_ip_address" not in message for message in state.of("vmdata")):
        system.log("metadata of a VM without an address: nobody can ask for it")
    for address in _concerned(state):
        render_vm(address, rows.get(address, []))


def apply(state: State) -> None:
    """Write the files of the VMs concerned; reload apache when a site came or went, start it when it does not run."""
    if not state.topology.serves_guests:
        return
    rows = state.bag("vmdata")
    for address in _concerned(state):
        _write_vm(address, render_vm(address, rows[address]) if address in rows else {})
    changed = _write_sites(sorted({guest.server for guest in state.topology.guests}))
    if state.booting:
        return
    if not system.unit_active(UNIT):
        system.unit("start", UNIT)
    elif changed:
        system.unit("reload", UNIT)


def prove(state: State) -> None:
    """Wait until apache listens."""
    if state.topology.serves_guests:
        sockets.await_listeners("apache", [(guest.server, 80) for guest in state.topology.guests])


def _write_vm(address: str, files: Dict[str, bytes]) -> None:
    for path, content in files.items():
        system.write_bytes(ROOT / path, content)
    for kind in ("userdata", "metadata"):
        folder = ROOT / kind / address
        if not any(path.startswith(f"{kind}/{address}/") for path in files):
            shutil.rmtree(str(folder), ignore_errors=True)
            continue
        for file in list(folder.iterdir()):
            if f"{kind}/{address}/{file.name}" not in files:
                file.unlink()


def _write_sites(servers: List[str]) -> bool:
    sites = render_sites(TEMPLATE.read_text(encoding="utf-8"), servers)
    changed = system.write_all({SITES / name: text for name, text in sites.items()})
    for file in SITES.glob("vhost-*.conf"):
        if file.name not in sites:
            file.unlink()
            changed = True
    return changed
