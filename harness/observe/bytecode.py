"""Compiled modules of Python: the reviewed list lets them change, so each that did is compared with its source.

An interpreter runs a compiled module that names the time and size of its source and never looks at the source again.
"""

from __future__ import annotations

import fnmatch
import shlex

from harness.guest.collect import Section, collect
from harness.guest.protocols import Guest
from harness.observe.files import DiskState

NAME = "state.bytecode"
_COMPILED = "*/__pycache__/*.pyc"
# Prints the paths of those that its interpreter would run and that are not what it makes of the source.
_COMPARE = r"""
import importlib.util, marshal, os, sys
new = sys.version_info >= (3, 7)
for path in sys.argv[1:]:
    try:
        source = importlib.util.source_from_cache(path)
        with open(path, "rb") as file:
            data = file.read()
        with open(source, "rb") as file:
            text = file.read()
            told = os.fstat(file.fileno())
    except (FileNotFoundError, ValueError, NotImplementedError):
        continue
    if data[:4] != importlib.util.MAGIC_NUMBER or "." + sys.implementation.cache_tag + "." not in path:
        continue
    flags = int.from_bytes(data[4:8], "little") if new else 0
    head = data[8:16] if new else data[4:12]
    stamp = b"".join((int(n) & 0xFFFFFFFF).to_bytes(4, "little") for n in (told.st_mtime, told.st_size))
    if (not flags and head != stamp) or (flags & 2 and head != importlib.util.source_hash(text)):
        continue
    level = path.rpartition(".opt-")[2].partition(".")[0] if ".opt-" in path else "0"
    try:
        wanted = compile(text, source, "exec", dont_inherit=True, optimize=int(level))
        same = marshal.loads(data[16 if new else 12:]) == wanted
    except (ValueError, SyntaxError, EOFError, TypeError):
        same = False
    if not same:
        print(path, end="\0")
"""


def written(earlier: DiskState, now: DiskState) -> list[str]:
    """Return the paths of the compiled modules that are new, or were written, since an earlier look."""
    return [
        path
        for path, entry in now.entries.items()
        if entry.type == "file" and fnmatch.fnmatchcase(path, _COMPILED)
        and ((before := earlier.entries.get(path)) is None or before.stamp != entry.stamp)
    ]  # fmt: skip


def strange(guest: Guest, earlier: DiskState, now: DiskState, *, deadline: float = 120.0) -> Section:
    """Return which compiled modules that were written since are of another source, as the guest's Python says.

    One that its interpreter would not run, since it is of another version or older than its source, is none of them.

    Raises:
        InfrastructureError: the guest does not answer.
    """
    if not (paths := written(earlier, now)):
        return Section(NAME, 0, b"")
    command = f"python3 -I -S -c {shlex.quote(_COMPARE)} {' '.join(map(shlex.quote, paths))}"
    return collect(guest, {NAME: command}, deadline=deadline)[NAME]
