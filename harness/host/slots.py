"""Memory and processors for machines, reserved across processes by file locks: whoever starts too much waits.

Memory is cut into tokens of 64 MiB, processors into tokens of one virtual CPU. A token is a file whose lock its holder
has; a dead holder's tokens are free at once. Machines of all runs on a host draw from the same tokens.

Tokens are promises of what machines will take. What the host really has left is looked at, too: other programs know
nothing of tokens, and who would take what is not there waits like one who finds no token.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from bundle.errors import InfrastructureError
from harness.host import locks, peaks
from harness.host.runtime import state_root
from harness.record import progress

TOKEN_MIB = 64
# What may be promised: most of the memory, and more virtual CPUs than there are real ones, since machines mostly idle.
MEMORY_SHARE = 0.75
VCPUS_PER_CORE = 8
# What is left to the host itself: less free memory than this, and its own programs begin to suffer.
MARGIN_MIB = 256
DEADLINE = 1800.0
_TICK = 0.05


@dataclass(frozen=True)
class Need:
    """The room that a group of machines takes: MiB of memory and virtual CPUs."""

    memory_mib: int
    vcpus: int

    def __add__(self, other: Need) -> Need:
        """Return what two groups take together."""
        return Need(self.memory_mib + other.memory_mib, self.vcpus + other.vcpus)

    def __mul__(self, groups: int) -> Need:
        """Return what that many such groups take."""
        return Need(self.memory_mib * groups, self.vcpus * groups)

    def tokens(self) -> dict[str, int]:
        """Return how many tokens of each kind that is."""
        return {"memory": -(-self.memory_mib // TOKEN_MIB), "vcpu": self.vcpus}


@dataclass
class Reservation:
    """Tokens that are held; ``release`` gives them back, and so does the end of the process."""

    handles: list[int] = field(default_factory=list)

    def release(self) -> None:
        """Give all tokens back."""
        while self.handles:
            os.close(self.handles.pop())


def capacity() -> dict[str, int]:
    """Return how many tokens of each kind this host has; ``SYSVM_SLOTS=MIB,VCPUS`` overrides.

    Raises:
        InfrastructureError: the override is no pair of whole numbers.
    """
    if override := os.environ.get("SYSVM_SLOTS"):
        try:
            memory, vcpus = (int(word) for word in override.split(","))
        except ValueError:
            raise InfrastructureError(f"invalid SYSVM_SLOTS {override!r} (expected MIB,VCPUS)") from None
        return {"memory": memory // TOKEN_MIB, "vcpu": vcpus}
    total = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    return {
        "memory": int(int(total.split()[1]) / 1024 * MEMORY_SHARE) // TOKEN_MIB,
        "vcpu": len(os.sched_getaffinity(0)) * VCPUS_PER_CORE,
    }


class NoRoom(InfrastructureError):
    """The host's machines hold what is wanted."""


def contended() -> bool:
    """Say whether somebody waits for tokens just now."""
    handle = locks.try_exclusive(_waiting())
    if handle is None:
        return True
    os.close(handle)
    return False


def reserve(need: Need, what: str, *, deadline: float = DEADLINE) -> Reservation:
    """Reserve tokens, waiting for others to give theirs back; says so once when it has to wait.

    Args:
        need: how much.
        what: who waits, for the line.
        deadline: seconds; 0 takes what is free or nothing.

    Raises:
        InfrastructureError: the host can never hold that much.
        NoRoom: the deadline passed.
    """
    wanted, there = need.tokens(), capacity()
    for kind, number in wanted.items():
        if number > there[kind]:
            raise InfrastructureError(
                f"{what} needs {need.memory_mib} MiB and {need.vcpus} vCPUs, more than this host can give",
                hint="SYSVM_SLOTS=MIB,VCPUS overrides what is measured",
            )
    end = time.monotonic() + deadline
    if (reservation := _try(wanted, there)) is not None:
        return reservation
    if deadline > 0:
        lacking = "that the host has not left" if not _is_left(wanted) else "that other machines hold"
        progress.say(f"{what}: waiting for {need.memory_mib} MiB and {need.vcpus} vCPUs {lacking}")
    waiting = locks.shared(_waiting())
    try:
        while (reservation := _try(wanted, there)) is None:
            if time.monotonic() >= end:
                why = "" if _is_left(wanted) else f" (the host has {peaks.available_mib()} MiB left)"
                raise NoRoom(f"{what}: no room for it within {deadline:g} s{why}")
            time.sleep(_TICK)
    finally:
        os.close(waiting)
    return reservation


def _is_left(wanted: dict[str, int]) -> bool:
    """Say whether the host has so much memory left; where the kernel does not say, the tokens alone decide."""
    left = peaks.available_mib()
    return left is None or left >= wanted["memory"] * TOKEN_MIB + MARGIN_MIB


def _waiting() -> Path:
    return state_root() / "slots" / "waiting"


def _try(wanted: dict[str, int], there: dict[str, int]) -> Reservation | None:
    """Take all tokens or none. One taker at a time, so that two do not hold halves and wait for each other."""
    folder = state_root() / "slots"
    reservation = Reservation()
    with locks.exclusive(folder / "taking"):
        if not _is_left(wanted):
            return None
        for kind, number in wanted.items():
            found = 0
            for index in range(there[kind]):
                if found == number:
                    break
                handle = locks.try_exclusive(folder / f"{kind}-{index}")
                if handle is not None:
                    reservation.handles.append(handle)
                    found += 1
            if found < number:
                reservation.release()
                return None
    return reservation
