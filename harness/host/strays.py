"""Emulators that libvirt knows nothing of: it was killed while it started them, and no daemon finds them again."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_END_SECONDS = 5.0
_GROUPS = Path("/sys/fs/cgroup")


def end(prefix: str) -> list[str]:
    """Kill each QEMU whose guest's name begins with ``prefix``; returns the names of the guests."""
    return [name for folder in emulators() if (name := _end(folder, prefix))]


def remove_groups(prefix: str, root: Path = _GROUPS) -> None:
    """Remove the control groups of guests whose names begin with ``prefix``; those with a process in them stay.

    libvirt makes them where no systemd does, and removes those of machines whose end it sees.
    """
    for pattern in (f"machine/qemu-*-{prefix}*", f"*/machine/qemu-*-{prefix}*"):
        for group in root.glob(pattern):
            for folder in [
                *sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True),
                group,
            ]:
                with suppress(OSError):
                    folder.rmdir()


def emulators(proc: Path = Path("/proc")) -> Iterator[Path]:
    """Yield the folder of each process that is a QEMU with a named guest; it may end at any time."""
    yield from (folder for folder in proc.iterdir() if folder.name.isdecimal() and guest_of(folder))


def _end(folder: Path, prefix: str) -> str:
    """Kill a process if it is such a QEMU; returns its guest's name, or nothing."""
    if not guest_of(folder).startswith(prefix):
        return ""
    with suppress(ProcessLookupError), _held(int(folder.name)) as process:
        # The number may belong to another process by now; what is held cannot change any more.
        if (name := guest_of(folder)).startswith(prefix):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], _END_SECONDS)
            return name
    return ""


@contextmanager
def _held(pid: int) -> Iterator[int]:
    process = os.pidfd_open(pid)
    try:
        yield process
    finally:
        os.close(process)


def guest_of(folder: Path) -> str:
    """Return the name of a QEMU process's guest; nothing for any other process."""
    try:
        words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if not Path(words[0]).name.startswith("qemu-system-") or "-name" not in words[:-1]:
        return ""
    first = words[words.index("-name") + 1].split(",")[0]
    return first.removeprefix("guest=") if first.startswith("guest=") else ""
