"""The processes of this host: any of them may end while it is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def command_lines() -> Iterator[tuple[Path, str]]:
    """Yield the folder below ``/proc`` and the command line of every process."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            yield folder, (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
