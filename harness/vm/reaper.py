"""Clears away what dead runs left: domains, namespaces, overlays, folders. Called at the start of every command."""

from __future__ import annotations

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import libvirt

from bundle.errors import InfrastructureError
from harness.host import runtime, strays
from harness.host.cache import SNAPSHOTS, collect_partials
from harness.host.hypervisor import PREFIX, Hypervisor
from harness.machine import ram
from harness.machine.disks import remove_ownerless_work, remove_work
from harness.vm import backends, golden


def reap(hypervisor: Hypervisor) -> list[str]:
    """Remove what abandoned runs left; returns the run ids."""
    gone = []
    for run in runtime.abandoned():
        end_run(hypervisor, run.id)
        remove_work(run.id)
        shutil.rmtree(run.path, ignore_errors=True)
        gone.append(run.id)
    # A run's folder is there before its first domain: what has none is nobody's.
    for domain in hypervisor.domains():
        run_id = domain.name().removeprefix(PREFIX).split("-", 1)[0]
        if not (runtime.runs_folder() / run_id).is_dir():
            end_run(hypervisor, run_id)
            gone.append(run_id)
    remove_ownerless_work()
    golden.collect_unfinished()
    ram.remove_abandoned(hypervisor)
    # A person's snapshot that is half made is nobody's.
    collect_partials(SNAPSHOTS)
    return gone


def close_run(hypervisor: Hypervisor, run: runtime.RuntimeFolder) -> None:
    """End what is left of a run at its end, unless a person keeps it."""
    if not runtime.kept(run.path):
        if not end_run(hypervisor, run.id):
            # A killed daemon may have been about to become QEMU, which nobody sees yet.
            runtime.leave(run.path)
        remove_work(run.id)


def end_run(hypervisor: Hypervisor, run_id: str) -> bool:
    """End all machines of a run and remove their segments; False when libvirt does not say which machines these are."""
    answered = False
    # A domain may be gone by now, and so may the daemon: then its machines are among the strays.
    with contextlib.suppress(InfrastructureError):
        theirs = [d for d in hypervisor.domains() if d.name().startswith(f"{PREFIX}{run_id}-")]
        if theirs:  # libvirt takes 0.2 s for each
            with ThreadPoolExecutor(len(theirs)) as pool:
                list(pool.map(_destroy, theirs))
        answered = True
    strays.end(f"{PREFIX}{run_id}-")
    strays.remove_groups(f"{PREFIX}{run_id}-")
    backends.remove_all(f"{PREFIX}{run_id}-*")
    return answered


def _destroy(domain: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        domain.destroy()
