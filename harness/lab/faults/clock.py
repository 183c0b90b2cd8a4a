"""The clock of the guest: off by years, or stepping while something runs."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.faults.moments import beside
from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm, set_clock


def step(vm: SystemVm, seconds: float) -> None:
    """Let the guest's clock step at once, beside whatever runs there."""
    guest = beside(vm, "clock")
    try:
        guest.run(f'date -u -s "@$(( $(date +%s) + {int(seconds)} ))" >/dev/null')
    finally:
        guest.close()


@outside("clock.off", "the clock is off by so many seconds, and right again afterwards")
def off(vm: SystemVm, seconds: float) -> Iterator[None]:
    """Let the guest's clock be off."""
    step(vm, seconds)
    try:
        yield
    finally:
        vm.guest.run(set_clock())
