"""Cleaning at the start of every command: what killed commands left is gone before the next one does anything."""

from __future__ import annotations

from bundle.errors import SysvmError
from bundle.sink import tell


def remove() -> None:
    """Remove what killed runs left; a look at one folder where there is nothing.

    What cannot be removed is told and stops no command: most need no machine.
    """
    from harness.host import runtime

    try:
        if not runtime.has_abandoned():
            return
    except SysvmError:
        return  # whatever is wrong with the state folder is for a command that needs it to say
    try:
        from harness.host.hypervisor import hypervisor
        from harness.vm import reaper

        with hypervisor() as host:
            gone = reaper.reap(host)
    except (SysvmError, ImportError, OSError) as error:
        tell(f"sysvm: what a killed run left cannot be removed: {error}", err=True)
        return
    if gone:
        tell(f"sysvm: removed what was left of {', '.join(sorted(set(gone)))}, which was killed", err=True)
