"""User data and metadata: one web site for each guest network, one folder for each VM."""

from __future__ import annotations

import base64
import binascii
import shutil
from pathlib import Path
from typing import Dict, List

from .. import system
from ..errors import Refused
from ..state import State

KINDS = frozenset({"vmdata", "guestnetwork"})
TEMPLATE = Path("/etc/apache2/vhost.template")
SITES = Path("/etc/apache2/sites-enabled")
ROOT = Path("/var/www/html")
UNIT = "apache2.service"


def render_sites(template: str, servers: List[str]) -> Dict[str, str]:
    """Return the site files by name."""
    return {f"vhost-{server}.conf": template.replace("@ADDRESS@", server) for server in servers}


def render_vm(address: str, rows: List[List[str]]) -> Dict[str, bytes]:
    """Return the files of one VM, by path below the web root.

    Raises:
        Refused: the user data is not base64.
    """
    files = {}
    names = []
    for folder, name, content in rows:
        if folder == "userdata":
            try:
                data = base64.b64decode(content.encode("utf-8"), validate=True)
            except (ValueError, binascii.Error):
                raise Refused(f"vmdata: the user data of {address} is not base64") from None
            files[f"userdata/{address}/{name}"] = data
        elif folder == "metadata":
            names.append(name)
            files[f"metadata/{address}/{name}"] = content.encode("utf-8")
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
    return sorted({message["vm_ip_address"] for message in state.of("vmdata")})


def check(state: State) -> None:
    """Refuse user data that cannot be decoded."""
    rows = state.bag("vmdata")
    for address in _concerned(state):
        render_vm(address, rows.get(address, []))


def apply(state: State) -> None:
    """Write the files of the VMs concerned; reload apache when a site came or went."""
    if not state.topology.serves_guests:
        return
    rows = state.bag("vmdata")
    for address in _concerned(state):
        _write_vm(address, render_vm(address, rows[address]) if address in rows else {})
    changed = _write_sites(sorted({guest.server for guest in state.topology.guests}))
    if changed and not state.booting:
        if system.unit_active(UNIT):
            system.unit("reload", UNIT)
        else:
            system.unit("start", UNIT)


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
