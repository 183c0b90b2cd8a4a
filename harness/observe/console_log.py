"""The serial console: lines that no healthy guest prints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Pattern:
    """A pattern of console lines, and its meaning."""

    meaning: str
    regex: re.Pattern[str]


def _pattern(meaning: str, regex: str) -> Pattern:
    return Pattern(meaning, re.compile(regex))


PATTERNS = (
    _pattern("kernel panic", r"Kernel panic - not syncing"),
    _pattern("kernel oops", r"\bOops: |\bInternal error: Oops"),
    _pattern("kernel bug", r"kernel BUG at |BUG: unable to handle|BUG: kernel NULL pointer"),
    _pattern("kernel warning with a stack trace", r"WARNING: CPU: \d+ PID: \d+ at "),
    _pattern("general protection fault", r"general protection fault"),
    _pattern("soft lockup", r"soft lockup - CPU#\d+ stuck"),
    _pattern("hard lockup", r"hard LOCKUP"),
    _pattern("stalled RCU", r"rcu(_sched|_preempt)?:? .*(detected|self-detected) (stall|expedited)"),
    _pattern("hung task", r"INFO: task .* blocked for more than \d+ seconds"),
    _pattern("out of memory", r"Out of memory: Kill|invoked oom-killer|oom-kill:constraint"),
    _pattern("allocation failure", r"page allocation failure"),
    _pattern("disk I/O error", r"(Buffer )?I/O error[ ,]+(on )?(dev|device)|blk_update_request: .*error"),
    _pattern(
        "file system error",
        r"EXT4-fs( \([^)]*\))?:? error|EXT4-fs error|XFS .*(Corruption|metadata I/O error)",
    ),
    _pattern("file system went read-only", r"Remounting filesystem read-only|re-mounted .* ro\b"),
    _pattern("ordering cycle", r"Found ordering cycle|[Bb]reak(ing)? ordering cycle"),
    _pattern("emergency shell", r"You are in emergency mode|Entering emergency mode|Emergency Shell"),
    _pattern("rescue shell", r"You are in rescue mode|\(initramfs\) *$|BusyBox v\S+ .*built-in shell"),
    _pattern("segmentation fault", r"\bsegfault at |traps: .* trap |Segmentation fault"),
    _pattern("core dump", r"\(core dumped\)|dumped core|Process \d+ \(.*\) of user \d+ dumped core"),
    _pattern("unit that failed", r"\[FAILED\] Failed to start "),
    _pattern("dependency that failed", r"\[DEPEND\] Dependency failed for "),
    _pattern("job that timed out", r"\[ *TIME *\] Timed out waiting for"),
    _pattern("missing root file system", r"VFS: Unable to mount root fs|ALERT! .* does not exist"),
    _pattern("unexpected reboot", r"reboot: (Restarting system|Power down)"),
)


# What no scenario can mean to cause: the kernel is broken.
_FATAL = frozenset(
    {"kernel panic", "kernel oops", "kernel bug", "general protection fault", "missing root file system"}
)


@dataclass(frozen=True)
class Sighting:
    """A line of the console and what it means."""

    meaning: str
    line: str

    @property
    def is_fatal(self) -> bool:
        """True if no scenario can cause it on purpose."""
        return self.meaning in _FATAL


def printed_since(log: Path, size: int) -> str:
    """Return what a console has printed since its log had so many bytes."""
    with log.open("rb") as file:
        file.seek(size)
        return file.read().decode(errors="replace")


def scan(text: str) -> tuple[Sighting, ...]:
    """Return every line of a console log that matches a pattern, in order, with the first meaning that fits."""
    found = []
    for raw in text.splitlines():
        line = _CONTROL.sub("", raw).rstrip()
        meaning = next((pattern.meaning for pattern in PATTERNS if pattern.regex.search(line)), None)
        if meaning is not None:
            found.append(Sighting(meaning, line[:300]))
    return tuple(found)
