"""Programs of the guest that fail, die, hang, talk or lie: stand-ins in front of the genuine ones in the path."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm

# The first folder of root's path in every template.
_FRONT = "/usr/local/sbin"
# Calls are counted here; a file of /dev/shm is gone with the fault.
_COUNT = "/dev/shm/sysvm-fault"  # noqa: S108 - of a guest that is ours
Deed: TypeAlias = Literal["fails", "dies", "hangs", "talks", "mutters", "lies"]
_DEEDS: dict[Deed, str] = {
    "fails": "exit 1",
    "dies": "kill -KILL $$",
    "hangs": "exec sleep 3600",
    "talks": 'echo "WARNING: NAME is noisy: version:0" >&2; echo "note: $* is done"; exec REAL "$@"',
    "mutters": 'echo "WARNING: NAME is noisy: version:0" >&2; exec REAL "$@"',
    "lies": "exit 0",
}


@outside("program.broken", "programs fail, die, hang, talk or lie when they are called with certain words")
def broken(
    vm: SystemVm, names: Sequence[str], deed: Deed, *, words: str = "*", first: int = 1, last: int = 1 << 30
) -> Iterator[None]:
    """Put stand-ins in front of programs.

    Args:
        vm: the VM.
        names: of the programs; one that the VM does not have is left out.
        deed: ``fails``: ends with status 1; ``dies``: is killed; ``hangs``: never ends; ``talks``: does its work and
            writes to both streams; ``mutters``: does it and writes to standard error; ``lies``: does nothing and says
            that it went well.
        words: shell pattern of the arguments; other calls reach the genuine program.
        first: number of the first such call that is broken, from 1.
        last: number of the last one.

    Raises:
        InfrastructureError: the stand-ins cannot be put there.
    """
    vm.guest.run(_install(names, deed, words, first, last))
    try:
        yield
    finally:
        places = " ".join(shlex.quote(f"{_FRONT}/{name}") for name in names)
        vm.guest.run(f"rm -f {places} {_COUNT}.*")


def calls(vm: SystemVm, name: str) -> int:
    """Return how often a stand-in was called with the words of its fault so far."""
    return int(vm.guest.run(f"cat {_COUNT}.{name} 2>/dev/null | wc -l").stdout)


def _install(names: Sequence[str], deed: Deed, words: str, first: int, last: int) -> str:
    """Return the shell commands that write the stand-ins."""
    lines = [f"mkdir -p {_FRONT}"]
    for name in names:
        lines.append(f"real=$(command -v {shlex.quote(name)}) && {{")
        lines.append(f"sed \"s|REAL|$real|g; s|NAME|{name}|g\" >{_FRONT}/{name} <<'END'")
        lines += [
            "#!/bin/bash",
            f'if [[ "$*" == {words} ]]; then',
            f"    echo x >>{_COUNT}.NAME",
            # Calls may come at once: each takes the next number that nobody has.
            f"    n=1; until (set -C; : >{_COUNT}.NAME.$n) 2>/dev/null || ((n > 9999)); do ((n += 1)); done",
            f"    if ((n >= {first} && n <= {last})); then",
            f"        {_DEEDS[deed]}",
            "    fi",
            "fi",
            'exec REAL "$@"',
            "END",
            f"chmod 0755 {_FRONT}/{name}",
            "}",
        ]
    return "\n".join([*lines, "true"])
