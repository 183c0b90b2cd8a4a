"""Emulators that libvirt knows nothing of: it was killed while it started them, and no daemon finds them again."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_END_SECONDS = 5.0


def end(prefix: str) -> list[str]:
    """Kill each QEMU whose guest's name begins with ``prefix``; returns the names of the guests."""
    return [name for folder in Path("/proc").iterdir() if (name := _end(folder, prefix))]


def _end(folder: Path, prefix: str) -> str:
    """Kill a process if it is such a QEMU; returns its guest's name, or nothing."""
    if not folder.name.isdecimal() or not _guest(folder).startswith(prefix):
        return ""
    with suppress(ProcessLookupError), _held(int(folder.name)) as process:
        # The number may belong to another process by now; what is held cannot change any more.
        if (name := _guest(folder)).startswith(prefix):
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


def _guest(folder: Path) -> str:
    """Return the name of a QEMU process's guest; nothing for any other process."""
    try:
        words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if not Path(words[0]).name.startswith("qemu-system-") or "-name" not in words[:-1]:
        return ""
    first = words[words.index("-name") + 1].split(",")[0]
    return first.removeprefix("guest=") if first.startswith("guest=") else ""
