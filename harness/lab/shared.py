"""A VM that scenarios which change nothing hand on to each other: restored once, and proven untouched after each."""

from __future__ import annotations

from contextlib import ExitStack

from harness.vm.system import SystemVm


class Shared:
    """At most one VM, with what ends it; whoever takes it owns it until it is given back."""

    def __init__(self) -> None:
        """Start without one."""
        self._kept: tuple[SystemVm, ExitStack] | None = None

    def take(self, name: str) -> tuple[SystemVm, ExitStack] | None:
        """Return the VM under another name, with what ends it; None when there is none."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[0].rename(name)
        return kept

    def give(self, vm: SystemVm, life: ExitStack) -> None:
        """Keep a VM for the next one."""
        self.close()
        self._kept = vm, life

    def close(self) -> None:
        """End the VM that nobody wants any more."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()
