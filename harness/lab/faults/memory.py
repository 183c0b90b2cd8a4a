"""Memory: so little of it that what is not careful is killed."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm

_FILLER = "/dev/shm/sysvm-filler"  # noqa: S108 - of a guest that is ours


@outside("memory.little", "other things have taken the memory, but for so many MiB")
def little(vm: SystemVm, leave: int = 48) -> Iterator[None]:
    """Take the VM's memory with a file in memory, until ``leave`` MiB are available."""
    available = "$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)"
    vm.guest.run(
        f"mount -o remount,size=90% /dev/shm && n=$(({available} - {leave})) && "
        f"{{ [ $n -le 0 ] || head -c ${{n}}M /dev/zero >{_FILLER}; }}",
        deadline=120,
    )
    try:
        yield
    finally:
        vm.guest.run(f"rm -f {_FILLER} && mount -o remount,size=50% /dev/shm", deadline=120)
