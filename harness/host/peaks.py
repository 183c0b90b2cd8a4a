"""Peaks of memory: what groups of machines were seen to take, kept in the cache so that later ones reserve as much.

What a machine takes of its own is what no other process shares with it: pages of a golden snapshot's RAM that it only
reads are the host's cache, and the first write to each makes it the machine's own. So a machine that has lived long
takes what its guest wrote, and QEMU's own needs: it grows until it ends, and is measured then.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from bundle import files
from bundle.errors import InfrastructureError
from harness.host import locks, strays
from harness.host.cache import cache_root, key_of

# The largest of so many is what is reserved: copies of which little was asked do not hide those that were patched, and
# a payload that takes less is followed after a while.
KEPT = 200
# Lines of /proc/PID/status: private pages, those of a RAM file in memory, and what was swapped out.
_OWN = ("RssAnon:", "RssShmem:", "VmSwap:")


def memory_of(machines: Iterable[str], proc: Path = Path("/proc")) -> int:
    """Return the MiB that QEMUs take of their own, all together.

    Args:
        machines: names of the guests, as QEMU was given them; one that is gone counts as nothing.
        proc: where processes are looked for.
    """
    wanted = set(machines)
    return sum(_own(folder) for folder in strays.emulators(proc) if strays.guest_of(folder) in wanted) >> 10


def known(what: object) -> int | None:
    """Return the largest measurement of late, in MiB; None where nothing was measured yet."""
    return max(_read(_place(what)), default=None)


def note(what: object, mib: int) -> None:
    """Keep a measurement; one of nothing tells nothing. A cache that cannot be written keeps none.

    Args:
        what: all that the peak depends on, such as type and accelerator.
        mib: the measurement.
    """
    if mib <= 0:
        return
    path = _place(what)
    with contextlib.suppress(OSError, InfrastructureError), locks.exclusive(path.with_suffix(".lock")):
        document = {"what": what, "mib": [*_read(path), mib][-KEPT:]}
        files.write(path, json.dumps(document, default=str) + "\n")


def _own(folder: Path) -> int:
    """Return the KiB that a process takes of its own; nothing for one that has ended."""
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(_OWN))


def _read(path: Path) -> list[int]:
    """Return what was measured; nothing where the file is missing or damaged: it is measured anew."""
    try:
        return [int(value) for value in json.loads(path.read_text())["mib"] if int(value) > 0]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _place(what: object) -> Path:
    folder = cache_root() / "peaks"
    return folder / f"{key_of(what)}.json"


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the MiB that can be taken without swapping, as the kernel estimates; None where it does not say."""
    try:
        lines = meminfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:")), None)
