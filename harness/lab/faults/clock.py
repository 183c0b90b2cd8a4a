"""The clock of the guest: off by years, or stepping while something runs."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.faults.moments import beside
from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm, set_clock


def stepping(seconds: int) -> str:
    """Return the command that lets a clock step, and keeps the part of a second that it shows."""
    return f"date -u -s 'now {seconds:+d} seconds' >/dev/null"


def step(vm: SystemVm, seconds: int) -> None:
    """Let the guest's clock step at once, beside whatever runs there."""
    guest = beside(vm, "clock")
    try:
        guest.run(stepping(seconds))
    finally:
        guest.close()


@outside("clock.off", "the clock is off by so many seconds, and right again afterwards")
def off(vm: SystemVm, seconds: int) -> Iterator[None]:
    """Let the guest's clock be off."""
    step(vm, seconds)
    try:
        yield
    finally:
        vm.guest.run(set_clock())
