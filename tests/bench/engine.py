"""Restores of a golden snapshot, against a cold boot of the same image and against libvirt's own save and restore.

Every figure ends with a command's answer over SSH. The rivals run in the same session on the same template.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bundle import catalogue
from harness import boot, results
from harness.engine import SystemVm
from harness.events import EventLog
from harness.lab import Lab, Wish, open_lab

RUNS = 10
RIVAL_RUNS = 3


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def restores(lab: Lab) -> tuple[list[float], list[float], list[float]]:
    """Return seconds to the first answer, seconds to stop, and MiB of private memory, of each restore."""
    first, stop, memory = [], [], []
    for number in range(RUNS):
        started = time.monotonic()
        vm = lab.restore(f"bench{number}")
        vm.guest.run("true")
        first.append(time.monotonic() - started)
        memory.append(private_mib(vm))
        stop.append(timed(vm.stop))
    return first, stop, memory


def private_mib(vm: SystemVm) -> float:
    """Return the memory that only this system VM's QEMU process has, in MiB."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"guest={vm.machine.name},".encode() in entry.read_bytes():
                rows = (entry.parent / "smaps_rollup").read_text().splitlines()
                return sum(int(row.split()[1]) for row in rows if row.startswith("Private_")) / 1024
        except OSError:
            continue
    raise RuntimeError(f"no QEMU process of {vm.machine.name}")


def cold_boot_and_libvirt(lab: Lab) -> tuple[float, list[float]]:
    """Return the seconds of one cold boot, and those of libvirt's own restores of that machine."""
    vm = lab.engine.start("cold", lab.plan, lab.image, lab.golden.ssh_key, freeze_to=None)
    try:
        public = lab.golden.ssh_key.with_suffix(".pub").read_text().strip()
        cold = timed(
            lambda: boot.boot(
                vm.machine, vm.guest, cmdline=lab.plan.cmdline(public), release=lab.old, bundle=lab.old_bundle,
                public_key=public, progress=lambda _step: None,
            )
        )  # fmt: skip
        saved = str(vm.overlays[0].with_suffix(".save"))
        seconds = []
        for _ in range(RIVAL_RUNS):
            vm.guest.close()
            vm.machine.handle.save(saved)
            started = time.monotonic()
            lab.host.connection.restore(saved)
            vm.guest.run("true")
            seconds.append(time.monotonic() - started)
        Path(saved).unlink()
        lab.host.connection.lookupByName(vm.machine.name).destroy()
    finally:
        vm.stop()
    return cold, seconds


def parallel(lab: Lab, count: int) -> float:
    """Return the seconds until that many restores, started together, have each answered once."""

    def visit(number: int) -> SystemVm:
        vm = lab.restore(f"side{number}")
        vm.guest.run("true")
        return vm

    with ThreadPoolExecutor(count) as pool:
        started = time.monotonic()
        machines = list(pool.map(visit, range(count)))
        seconds = time.monotonic() - started
    for vm in machines:
        vm.stop()
    return seconds


def main() -> None:
    """Measure and print."""
    facts = catalogue.load()
    with tempfile.TemporaryDirectory() as folder:
        record = results.create(Path(folder))
        wish = Wish("router", facts.default_from, facts.default)
        with EventLog(record.events) as events, open_lab(wish, record, events) as lab:
            first, stop, memory = restores(lab)
            four = parallel(lab, 4)
            cold, rival = cold_boot_and_libvirt(lab)
    p50 = statistics.median(first)
    p95 = sorted(first)[int(0.95 * (len(first) - 1) + 0.5)]
    print(f"restore to first answer: p50 {p50:.2f} s, p95 {p95:.2f} s ({len(first)} runs, router and tenant)")
    print(f"stop: p50 {statistics.median(stop):.2f} s")
    print(f"private memory of a restored router: {statistics.median(memory):.0f} MiB")
    print(f"four at once: {four:.2f} s, {4 * p50 / four:.1f} times the throughput of one after the other")
    print(f"cold boot to boot_up_done: {cold:.1f} s, {cold / p50:.1f} times a restore")
    print(
        f"libvirt's own restore: p50 {statistics.median(rival):.2f} s, {statistics.median(rival) / p50:.2f} times ours"
    )
