"""The kernel of a guest: every setting under ``/proc/sys``, modules, mounts, swap, and the clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.guest.collect import Section

# Seconds of the host's clock before and after the round trip; the harness adds them, no guest can.
HOST_CLOCK = "kernel.host-clock"
CLOCK = "date +%s.%N"
# Options of a mount that say when it was mounted, not how.
_PASSING_OPTIONS = re.compile(r",(fd|pgrp|timeout|pipe_ino)=[^,]*")
# How much a file system in memory may take: of the memory that the machine had when it was mounted.
_OF_MEMORY = re.compile(r",(size|nr_inodes)=[^,]*")


@dataclass(frozen=True)
class Mount:
    """A mounted file system."""

    device: str
    kind: str
    options: str

    def __str__(self) -> str:
        return f"{self.kind} of {self.device} ({self.options})"

    @property
    def of_any_boot(self) -> Mount:
        """It without what depends on the memory at the boot, which no two boots have alike."""
        return replace(self, options=_OF_MEMORY.sub("", self.options))


@dataclass(frozen=True)
class Clock:
    """The guest's clock against the host's: seconds that it is ahead, and by how much that may be wrong."""

    ahead: float
    margin: float


@dataclass(frozen=True)
class KernelState:
    """The kernel at one moment; None where the guest could not say.

    Attributes:
        settings: values under ``/proc/sys`` by path below it.
        modules: names of loaded modules.
        mounts: by mount point, the topmost last.
        swaps: files and devices that memory is swapped to.
        clock: against the host's.
    """

    settings: Mapping[str, str] | None
    modules: frozenset[str] | None
    mounts: Mapping[str, tuple[Mount, ...]] | None
    swaps: frozenset[str] | None
    clock: Clock | None

    @property
    def of_any_boot(self) -> KernelState:
        """It without what no two boots have alike."""
        if self.mounts is None:
            return self
        mounts = {point: tuple(mount.of_any_boot for mount in stack) for point, stack in self.mounts.items()}
        return replace(self, mounts=mounts)


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` reads."""
    return {
        # binfmt_misc is mounted by looking at it. Some values are only for writing, or not for everybody. Of two the
        # kernel warns whoever reads them; each has a twin in milliseconds.
        "kernel.settings": (
            "find /proc/sys -path /proc/sys/fs/binfmt_misc -prune -o "
            "-type f ! -name base_reachable_time ! -name retrans_time -print0 | xargs -0 grep -sH ''; "
            # 1: one is gone meanwhile; 123: one is only for writing.
            's=("${PIPESTATUS[@]}"); ((s[0] <= 1 && (s[1] == 0 || s[1] == 123)))'
        ),
        "kernel.modules": "cat /proc/modules",
        "kernel.mounts": "cat /proc/mounts",
        "kernel.swaps": "cat /proc/swaps",
        "kernel.clock": CLOCK,
    }


def parse(sections: Mapping[str, Section]) -> KernelState:
    """Turn the outputs of :func:`commands` into the state of a kernel."""

    def lines(name: str) -> list[str] | None:
        section = sections.get(f"kernel.{name}")
        return section.text.splitlines() if section and section.status == 0 and section.output else None

    settings, modules, mounts, swaps = map(lines, ("settings", "modules", "mounts", "swaps"))
    return KernelState(
        settings=None if settings is None else _settings(settings),
        modules=None if modules is None else frozenset(line.split()[0] for line in modules),
        mounts=None if mounts is None else _mounts(mounts),
        swaps=None if swaps is None else frozenset(line.split()[0] for line in swaps[1:]),
        clock=_clock(sections),
    )


def _settings(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        path, _, value = line.removeprefix("/proc/sys/").partition(":")
        plain = " ".join(value.split())
        found[path] = f"{found[path]}; {plain}" if path in found else plain
    return found


def _mounts(lines: list[str]) -> dict[str, tuple[Mount, ...]]:
    found: dict[str, tuple[Mount, ...]] = {}
    for line in lines:
        device, point, kind, options = line.split(" ")[:4]
        mount = Mount(device, kind, _PASSING_OPTIONS.sub("", options))
        found[point] = (*found.get(point, ()), mount)
    return found


def _clock(sections: Mapping[str, Section]) -> Clock | None:
    guest, host = sections.get("kernel.clock"), sections.get(HOST_CLOCK)
    if guest is None or guest.status != 0 or host is None or host.status != 0:
        return None
    began, ended = map(float, host.text.split())
    return Clock(float(guest.text) - (began + ended) / 2, (ended - began) / 2)
