"""The edge to the running system: programs, files, interfaces."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from .errors import Failed

LOG = Path("/var/log/cloud.log")
NETWORK_CLASS = Path("/sys/class/net")


def log(message: str) -> None:
    """Write one line to the log of the system VM."""
    line = "{} rules: {}\n".format(time.strftime("%Y-%m-%d %H:%M:%S"), message)
    try:
        with LOG.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError:
        sys.stderr.write(line)


def run(command: Sequence[str], stdin: Optional[str] = None, timeout: float = 60) -> str:
    """Run a program and return its standard output.

    Raises:
        Failed: it cannot be started, takes longer than ``timeout`` seconds, or ends with a status other than 0.
    """
    name = " ".join(command)
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise Failed(f"cannot start {name}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end within {timeout:.0f} s") from None
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip() or "no message"
        raise Failed(f"{name} ended with status {done.returncode}: {reason}")
    return done.stdout


def succeeds(command: Sequence[str]) -> bool:
    """Return whether a program ends with status 0."""
    try:
        run(command)
    except Failed:
        return False
    return True


def installed(program: str) -> bool:
    """Return whether a program is in one of the usual folders."""
    return any(
        os.access(f"{folder}/{program}", os.X_OK) for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
    )


def read_text(path: Path) -> Optional[str]:
    """Return the content of a file, or None when there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> bool:
    """Bring a file to the given content by rename; return whether that changed anything."""
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    descriptor = os.open(str(new), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    os.replace(str(new), str(path))
    return True


def write_text(path: Path, text: str, mode: int = 0o644) -> bool:
    """Do what ``write_bytes`` does with text."""
    return write_bytes(path, text.encode("utf-8"), mode)


def write_all(files: Dict[Path, str], mode: int = 0o644) -> bool:
    """Bring files to their contents; return whether that changed any of them."""
    changed = [path for path, text in sorted(files.items()) if write_text(path, text, mode)]
    return bool(changed)


def device_of(mac: str) -> Optional[str]:
    """Return the name of the interface with a MAC address, or None while it is not plugged."""
    for folder in sorted(NETWORK_CLASS.glob("eth*")):
        try:
            if (folder / "address").read_text().strip().lower() == mac.lower():
                return folder.name
        except OSError:
            continue
    return None


def mac_of(device: str) -> bytes:
    """Return the MAC address of an interface."""
    return bytes.fromhex((NETWORK_CLASS / device / "address").read_text().strip().replace(":", ""))


def devices() -> List[str]:
    """Return the names of the Ethernet interfaces that are plugged."""
    return sorted(folder.name for folder in NETWORK_CLASS.glob("eth*"))


def wait_for(condition: Callable[[], bool], seconds: float, tick: float = 0.02) -> bool:
    """Ask until the condition holds; False when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(tick)
    return True


def unit_active(unit: str) -> bool:
    """Return whether a unit runs."""
    return succeeds(["systemctl", "is-active", "--quiet", unit])


def unit(verb: str, name: str) -> None:
    """Ask systemd to ``start``, ``stop``, ``reload`` or ``restart`` a unit, and wait for it."""
    log(f"{verb} {name}")
    run(["systemctl", verb, name])


def set_kernel(parameters: Dict[str, str]) -> None:
    """Set kernel parameters by their path below ``/proc/sys``; one that this kernel lacks is skipped."""
    for path, value in parameters.items():
        file = Path("/proc/sys") / path
        if file.exists() and file.read_text().strip() != value:
            file.write_text(value + "\n")
