"""Restores of a golden snapshot, beside cold boots, bare QEMU, debvm-run and libvirt's own save and restore.

Every restore, and debvm-run, ends with a command's answer over SSH, every other boot with the login prompt on the
serial console. Nothing else should run meanwhile. ``SYSVM_BENCH_RUNS`` is how often each thing is measured (10),
``SYSVM_BENCH_CROWD`` how many restored VMs are kept at once to weigh them (8).
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import libvirt

from bundle import catalogue
from harness.host import wait
from harness.host.cache import cache_root
from harness.kvmagent.patch import LANDING, read_files, upload
from harness.lab.lab import Lab, open_lab
from harness.lab.wish import Wish
from harness.machine.machine import Machine
from harness.record import results
from harness.record.events import EventLog
from harness.vm import boot
from harness.vm.system import SystemVm
from tests.bench import _debvm
from tests.bench._bare import BareVm
from tests.processes import command_lines

RUNS = int(os.environ.get("SYSVM_BENCH_RUNS", "10"))
CROWD = int(os.environ.get("SYSVM_BENCH_CROWD", "8"))
PROMPT = b" login:"
BOOT_DEADLINE = 300.0
PATCH_DEADLINE = 600.0
IDLE_SECONDS = 3.0


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def summary(seconds: list[float]) -> str:
    """Return median and 95th percentile as text."""
    p95 = sorted(seconds)[min(len(seconds) - 1, round(0.95 * len(seconds)))]
    return f"p50 {statistics.median(seconds):5.2f} s  p95 {p95:5.2f} s  ({len(seconds)} runs)"


def tell(what: str, seconds: list[float], target: str = "") -> float:
    """Print one row of the table; returns the median."""
    print(f"{what:44} {summary(seconds)}  {target}", flush=True)
    return statistics.median(seconds)


def restores(lab: Lab) -> tuple[list[float], list[float]]:
    """Return the seconds to the first answer and the seconds to stop, without a spare."""
    first, stop = [], []
    for number in range(RUNS):
        started = time.monotonic()
        vm = lab.restore(f"bench{number}")
        vm.guest.run("true")
        first.append(time.monotonic() - started)
        stop.append(timed(vm.stop))
    return first, stop


def spares(lab: Lab) -> list[float]:
    """Return the seconds to the first answer of a spare that stands ready."""
    seconds = []
    for number in range(RUNS):
        lab.spares.expect()
        if not lab.spares.wait():
            raise RuntimeError("no room for a spare")
        started = time.monotonic()
        vm = lab.spares.take(f"bench{number}")
        vm.guest.run("true")
        seconds.append(time.monotonic() - started)
        vm.stop()
    return seconds


def empty_scenario(lab: Lab) -> None:
    """Do what every scenario does, and nothing between: restore, ask, keep the logs, stop."""
    with lab.system_vm("noop") as vm:
        vm.guest.run("true")


def empty_scenarios_in_a_row(lab: Lab) -> list[float]:
    """Return the seconds of each of several empty scenarios, each of which expects the next."""
    seconds = []
    for number in range(RUNS):
        started = time.monotonic()
        with lab.system_vm(f"noop{number}") as vm:
            lab.spares.expect()
            vm.guest.run("true")
        seconds.append(time.monotonic() - started)
    return seconds


def private_mib(machine: Machine) -> float:
    """Return the memory that only this machine's QEMU process has, in MiB."""
    for folder, line in command_lines():
        if f"guest={machine.name}," in line:
            rows = (folder / "smaps_rollup").read_text().splitlines()
            return sum(int(row.split()[1]) for row in rows if row.startswith("Private_")) / 1024
    raise RuntimeError(f"no QEMU process of {machine.name}")


def crowd(lab: Lab, count: int) -> tuple[list[float], list[float], float]:
    """Keep that many restored VMs; returns the MiB of each system VM and tenant, and the seconds until all answered."""
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        there = list(pool.map(lambda number: lab.restore(f"crowd{number}"), range(count)))
        list(pool.map(lambda vm: vm.guest.run("true"), there))
    seconds = time.monotonic() - started
    time.sleep(IDLE_SECONDS)  # an idle VM is what is weighed
    systems = [private_mib(vm.machine) for vm in there]
    tenants = [private_mib(machine) for vm in there for machine in vm.tenant_machines.values()]
    for vm in there:
        vm.stop()
    return systems, tenants, seconds


def answer(vm: SystemVm) -> None:
    """Let a VM do the least it can."""
    vm.guest.run("true")


def live_patch(vm: SystemVm, bundle: Path) -> None:
    """Let a VM do what it is there for: take a bundle and patch itself, soak time included."""
    upload(vm.guest, read_files(bundle))
    vm.guest.run(f"{LANDING}/patch-sysvms.sh", deadline=PATCH_DEADLINE)


def at_once(lab: Lab, count: int, work: Callable[[SystemVm], None]) -> list[float]:
    """Return, several times, the seconds until that many restores, started together, did their work and are gone."""

    def visit(number: int) -> None:
        vm = lab.restore(f"side{number}")
        work(vm)
        vm.stop()

    def together() -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(visit, range(count)))

    return [timed(together) for _ in range(RUNS)]


def compute(loops: int) -> int:
    """Do nothing but compute, for some tenths of a second with the default of loops."""
    total = 0
    for number in range(loops):
        total += number * number & 7
    return total


def loops_at_once(count: int, loops: int = 5_000_000) -> list[float]:
    """Return, several times, the seconds until that many processes, each with a loop of computing, are through."""
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:

        def together() -> None:
            list(pool.map(compute, [loops] * count))

        together()  # the processes start with the first work
        return [timed(together) for _ in range(RUNS)]


def prompts(path: Path) -> bool:
    """Say whether the login prompt is on a console."""
    return path.exists() and PROMPT in path.read_bytes()


def boots(lab: Lab) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds to the prompt of our cold boots, of bare QEMU's on the same image, and to freeze ours."""
    public = lab.golden.ssh_key.with_suffix(".pub").read_text().strip()
    alone = replace(lab.plan, tenants=())  # bare QEMU has no tenants, either
    cmdline = boot.normalise(alone.cmdline(public, lab.old)).encode()
    ours, bare, frozen = [], [], []
    for number in range(RUNS):
        with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
            Path(folder).chmod(0o711)  # QEMU's user passes through
            started = time.monotonic()
            # A name of its own: the log of another machine's console has a prompt already.
            vm = lab.engine.start(
                f"cold{number}", alone, lab.image, lab.golden.ssh_key, freeze_to=Path(folder)
            )
            boot.wait_for_guest_agent(vm.machine, BOOT_DEADLINE)
            boot.write_through_guest_agent(vm.machine, boot.CMDLINE_FILE, cmdline)
            console = vm.console_log
            wait.until(partial(prompts, console), "the login prompt", BOOT_DEADLINE)
            ours.append(time.monotonic() - started)
            vm.machine.wait_idle(BOOT_DEADLINE)
            frozen.append(timed(partial(lab.engine.freeze, vm, Path(folder))))
        started = time.monotonic()
        with BareVm(lab.image, lab.plan.memory_mib) as rival:
            rival.agent.deliver(boot.CMDLINE_FILE, cmdline, BOOT_DEADLINE)
            wait.until(partial(prompts, rival.console), "the login prompt", BOOT_DEADLINE)
            bare.append(time.monotonic() - started)
    return ours, bare, frozen


def libvirt_restores(lab: Lab) -> list[float]:
    """Return the seconds of libvirt's own restore of such a machine, once booted, to its first answer."""
    key = lab.golden.ssh_key
    public = key.with_suffix(".pub").read_text().strip()
    vm = lab.engine.start("rival", lab.plan, lab.image, key, freeze_to=None)
    saved = str(vm.overlays[0].with_suffix(".save"))
    seconds = []
    try:
        boot.boot(
            vm.machine, vm.guest, cmdline=lab.plan.cmdline(public, lab.old), release=lab.old, bundle=lab.old_bundle,
            public_key=public, progress=lambda _step: None,
        )  # fmt: skip
        for _ in range(RUNS):
            vm.guest.close()
            lab.host.connection.lookupByName(vm.machine.name).save(saved)
            started = time.monotonic()
            lab.host.connection.restore(saved)
            vm.guest.run("true")
            seconds.append(time.monotonic() - started)
    finally:
        Path(saved).unlink(missing_ok=True)
        with suppress(libvirt.libvirtError):
            lab.host.connection.lookupByName(vm.machine.name).destroy()
        vm.stop()
    return seconds


def debvm_boots(lab: Lab) -> list[float]:
    """Return the seconds from the start of Debian's ``debvm-run`` to the first answer of the same system."""
    alone = replace(lab.plan, tenants=())
    with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
        root = _debvm.root_file_system(lab.image, Path(folder))
        return [_debvm.first_answer(root, lab.image, alone, lab.golden.ssh_key) for _ in range(RUNS)]


def main() -> None:
    """Measure and print."""
    facts = catalogue.load()
    with tempfile.TemporaryDirectory() as folder:
        record = results.create(Path(folder))
        wish = Wish("router", facts.default_from, facts.default)
        with EventLog(record.events) as events, open_lab(wish, record, events) as lab:
            first, stop = restores(lab)
            one = tell("restore to the first answer", first, "(at most 0.8, p95 1.5)")
            tell("with a spare", spares(lab), "(at most 0.4)")
            tell("stop", stop, "(at most 0.3)")
            tell("empty scenario, logs kept", [timed(lambda: empty_scenario(lab)) for _ in range(RUNS)])
            tell("empty scenarios in a row", empty_scenarios_in_a_row(lab), "(at most 1.5)")
            works: dict[str, Callable[[SystemVm], None]] = {
                "answered": answer,
                "live-patched": lambda vm: live_patch(vm, lab.new_bundle),
            }
            for what, work in works.items():
                alone = tell(f"one restored, {what} and stopped", at_once(lab, 1, work))
                four = tell(f"four at once, {what} and stopped", at_once(lab, 4, work))
                print(f"  {4 * alone / four:.1f} times the throughput of one (at least 3)")
            alone = tell("rival: one loop of computing", loops_at_once(1))
            four = tell("rival: four loops at once", loops_at_once(4))
            print(f"  {4 * alone / four:.1f} times the throughput of one: what the processors have for four")
            systems, tenants, seconds = crowd(lab, CROWD)
            each, beside = statistics.median(systems), statistics.median(tenants or [0.0])
            print(
                f"{CROWD} at once: {seconds:.1f} s, {each:.0f} MiB each (at most 100), its tenants {beside:.0f} MiB"
            )
            print(
                f"  50 of them: {50 * each / 1024:.1f} GiB, with tenants {50 * (each + beside) / 1024:.1f} GiB (8)"
            )
            rival = tell("rival: libvirt's restore to the first answer", libvirt_restores(lab))
            print(f"  {rival / one:.2f} times ours")
            if _debvm.is_there():
                rival = tell("rival: debvm-run to the first answer", debvm_boots(lab))
                print(f"  {rival / one:.1f} times ours, and nothing but sshd is configured by then")
            else:
                print(f"rival: {_debvm.PROGRAM} is missing: install the package {_debvm.PACKAGE}")
            ours, bare, frozen = boots(lab)
            tell("snapshot of a booted VM", frozen, "(at most 1)")
            cold, plain = tell("cold boot to the prompt", ours), tell("rival: bare QEMU to the prompt", bare)
            print(
                f"  {100 * (cold / plain - 1):+.1f} % over bare QEMU (at most 5); {cold / one:.1f} times a restore"
            )
