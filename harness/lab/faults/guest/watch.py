"""Waits inside a guest for a moment of a live patch, then does something to its processes and says what.

Called as ``python3 - MOMENT ARGUMENT WHO SIGNAL SECONDS [SCRIPT]``; it writes its number, then one line of JSON: what
it met and did. Whoever waits no longer ends it by that number. SCRIPT is what command lines of the patch hold: its
name, or a path where others on this machine have that name.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable

SCRIPT = "patch-sysvms.sh"
TICK = 0.002


def processes() -> dict[int, tuple[int, int, str]]:
    """Return parent, start time and command line of every process by its number."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(f"/proc/{name}/cmdline") as file:
                line = file.read().replace("\0", " ").strip()
        except (OSError, ValueError):
            continue
        if fields[0] != "Z":
            found[int(name)] = (int(fields[1]), int(fields[19]), line)
    return found


def of_patch(script: str) -> tuple[list[int], list[int]]:
    """Return the processes that run the patch script, oldest first, and all that they have started."""
    seen = processes()
    # The login shell that was asked to run the script has its name, too; it is no part of the patch.
    shells = {pid for pid, row in seen.items() if re.match(r"\S*sh -c ", row[2])}
    scripts = [pid for pid, row in seen.items() if script in row[2] and pid not in shells | {os.getpid()}]
    family = set(scripts)
    while True:
        more = {pid for pid, row in seen.items() if row[0] in family} - family
        if not more:
            break
        family |= more
    return (
        sorted(scripts, key=lambda pid: (seen[pid][1], pid)),
        sorted(family - set(scripts), key=lambda pid: (seen[pid][1], pid)),
    )


def chosen(who: str, script: str) -> list[int]:
    """Return the processes that are meant: ``all``, ``worker``, ``child``, or ``child:NAME``."""
    scripts, children = of_patch(script)
    if who == "all":
        return [*scripts, *children]
    if who == "worker":
        # The oldest one whose parent runs the script, too: the caller's side, if there is one, lives on.
        seen = processes()
        inner = [pid for pid in scripts if pid in seen and seen[pid][0] in scripts]
        return inner[:1] or scripts[:1]
    seen = processes()
    name = who.partition(":")[2]
    named = [pid for pid in children if pid in seen and re.search(name, seen[pid][2])]
    return named[-1:]


def started() -> int:
    """Return how many processes were started since boot."""
    with open("/proc/stat") as file:
        for line in file:
            if line.startswith("processes "):
                return int(line.split()[1])
    return 0


def stamp(path: str) -> object:
    """Return what moves when a file is written or replaced; None where there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def logged(argument: str) -> Callable[[], bool]:
    """Return a look at whether a file holds a pattern behind what it holds now; ``PATH`` and pattern at a blank."""
    path, _, pattern = argument.partition(" ")
    start = os.path.getsize(path) if os.path.exists(path) else 0

    def look() -> bool:
        try:
            with open(path, "rb") as file:
                file.seek(start)
                return re.search(pattern.encode(), file.read()) is not None
        except OSError:
            return False

    return look


def condition(moment: str, argument: str, script: str) -> Callable[[], bool]:
    """Return a look at whether a moment has come."""
    if moment == "logged":
        return logged(argument)
    if moment == "changed":
        before = stamp(argument)
        return lambda: stamp(argument) != before
    if moment == "process":
        begun: list[int] = []

        def look() -> bool:
            if not begun:
                if of_patch(script)[0]:
                    begun.append(started())
                return False
            return started() - begun[0] >= int(argument)

        return look
    if moment == "child":
        return lambda: bool(chosen(f"child:{argument}", script))
    if moment == "now":
        return lambda: True
    raise SystemExit(f"unknown moment {moment!r}")


def main(moment: str, argument: str, who: str, name: str, seconds: str, script: str = SCRIPT) -> None:
    """Wait, act and tell."""
    look = condition(moment, argument, script)
    print("watching", os.getpid(), flush=True)
    end = time.monotonic() + float(seconds)
    while not look():
        if time.monotonic() > end:
            print(json.dumps({"met": False, "done": []}))
            return
        time.sleep(TICK)
    found = chosen(who, script)
    # Between two children there may be none for a moment: the next one is meant then.
    while not found and who.startswith("child") and time.monotonic() < end:
        time.sleep(TICK)
        found = chosen(who, script)
    done = []
    seen = processes()
    for pid in found:
        try:
            os.kill(pid, getattr(signal, f"SIG{name}"))
            done.append(seen[pid][2] if pid in seen else str(pid))
        except OSError:
            continue
    print(json.dumps({"met": True, "done": done}))


if __name__ == "__main__":
    main(*sys.argv[1:])
