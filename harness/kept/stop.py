"""The end of a VM that a person keeps. Needs libvirt, but no engine: ``sysvm vm stop`` imports little."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from harness.host import runtime
from harness.host.hypervisor import Hypervisor, hypervisor
from harness.kept.listing import KeptVm
from harness.vm import reaper


def stop(kept: KeptVm) -> None:
    """End a kept VM and remove everything that belongs to it."""
    with hypervisor() as host:
        run = runtime.RuntimeFolder(kept.run, runtime.runs_folder() / kept.run)
        (run.path / "kept.json").unlink(missing_ok=True)
        reaper.close_run(host, run)
        shutil.rmtree(run.path, ignore_errors=True)
        reaper.reap(host)


@contextmanager
def alive() -> Iterator[tuple[Hypervisor, set[str]]]:
    """Yield libvirt and the names of the domains that run."""
    with hypervisor() as host:
        yield host, {domain.name() for domain in host.domains()}
