"""A guest's kernel that stands still: what its console says of it while nothing else of the guest answers.

The watchdog of a Linux kernel names a processor that has done nothing but one task for twenty seconds and more, and
names it again every half a minute. A guest that was merely starved, or whose clock was moved, is named once.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from pathlib import Path

_STUCK = re.compile(rb"soft lockup - CPU#(\d+) stuck for (\d+)s! \[([^\]\n]{1,64})\]")
_NAMED = 3
# The kernel's own interval is under half a minute; on a host that is busy its lines come later.
_FRESH = 90.0
_TAIL = 1 << 14


def lockup(console: bytes) -> str:
    """Return how long which processor has stood still, by the end of a console's log; nothing when none has."""
    named: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
    for cpu, seconds, task in _STUCK.findall(console[-_TAIL:]):
        named[cpu].append((int(seconds), task))
    for cpu, lines in sorted(named.items()):
        last = lines[-_NAMED:]
        lasts = [seconds for seconds, _ in last]
        if len(last) == _NAMED and len({task for _, task in last}) == 1 and lasts == sorted(set(lasts)):
            task = last[-1][1].decode("utf-8", "replace")
            return f"the kernel of the guest has stood still for {lasts[-1]} s (processor {cpu.decode()}, in {task})"
    return ""


def locked_up(log: Path, printed_before: int = 0) -> str:
    """Return how long the guest that writes this console log has stood still; nothing when it does not.

    Args:
        log: the console's log.
        printed_before: bytes of it that are an earlier machine's.
    """
    try:
        with log.open("rb") as file:
            size, written = (facts := log.stat()).st_size, facts.st_mtime
            file.seek(max(printed_before, size - _TAIL))
            said = file.read()
    except OSError:
        return ""
    return lockup(said) if time.time() - written < _FRESH else ""
