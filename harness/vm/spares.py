"""Spares: copies of a golden snapshot that are restored, logged in and stopped before anybody asks for them.

Somebody who knows that a VM will be needed says ``expect``; it is made in the background and stands still, so that it
does not age. ``take`` lets it run again. There is never more than one: a second would hold memory and processors
that another process may wait for, and make nothing faster (docs/adr/0003-spares.md has the measurements).
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from bundle.errors import InfrastructureError
from harness.host import slots
from harness.vm.system import SystemVm


class Restore(Protocol):
    """A maker of copies."""

    def __call__(self, name: str, *, patience: float = ...) -> SystemVm:
        """Return a running copy called ``name``; see ``Engine.restore``."""


class Spares:
    """At most one spare of one golden snapshot; use from any thread."""

    def __init__(self, restore: Restore) -> None:
        """Start without one."""
        self._restore = restore
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="spare")
        self._coming: Future[SystemVm | None] | None = None
        self._made = 0

    def expect(self) -> None:
        """Make a spare in the background, unless there is one or somebody waits for what it would take."""
        with self._lock:
            if self._coming is None and not slots.contended():
                self._made += 1
                self._coming = self._pool.submit(self._make, f"spare{self._made}")

    def take(self, name: str) -> SystemVm:
        """Return a running copy: the spare when there is one, else a fresh restore.

        Raises:
            InfrastructureError: it cannot be restored.
        """
        vm = self._ready()
        if vm is None:
            return self._restore(name)
        try:
            vm.resume()
        except InfrastructureError:
            vm.stop()
            return self._restore(name)
        vm.rename(name)
        return vm

    def wait(self) -> bool:
        """Wait for the spare in the making; says whether there is one."""
        with self._lock:
            coming = self._coming
        return coming is not None and coming.result() is not None

    def close(self) -> None:
        """End the spare that nobody took."""
        vm = self._ready()
        if vm is not None:
            vm.stop()
        self._pool.shutdown()

    def _ready(self) -> SystemVm | None:
        with self._lock:
            coming, self._coming = self._coming, None
        return coming.result() if coming is not None else None

    def _make(self, name: str) -> SystemVm | None:
        """Return a stopped copy, or None: whoever takes it then restores one, and hears what is wrong."""
        try:
            vm = self._restore(name, patience=0)
        except InfrastructureError:
            return None
        try:
            # Its session's first command is slow under emulation, and now nobody waits for it.
            vm.guest.run("true")
            vm.pause()
        except InfrastructureError:
            vm.stop()
            return None
        return vm
