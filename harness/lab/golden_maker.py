"""Golden snapshots of a run: made once, from a cold boot to proven rules, and what they depend on."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bundle import catalogue
from bundle.catalogue import Release
from bundle.errors import CheckFailed, InfrastructureError, worth_another_attempt
from bundle.ship.iso import make_iso
from harness import image, network
from harness.host.cache import digest_of_files
from harness.host.hypervisor import Hypervisor
from harness.host.runtime import RuntimeFolder
from harness.host.sources import digest_behind
from harness.kvmagent import patch
from harness.kvmagent.patch import FILES
from harness.lab.bundles import has_agent
from harness.lab.logs import keep_logs
from harness.lab.management_network import AUTHORITY, MANAGEMENT_LOG, management_of, site_of
from harness.machine.accel import Accelerator, processor
from harness.machine.technique import Technique
from harness.network import Network
from harness.record import progress
from harness.record.progress import Narrator
from harness.record.results import ResultsFolder
from harness.traffic import proofs
from harness.vm import boot, far_daemons, golden, hotplug, topology
from harness.vm.engine import Engine
from harness.vm.frozen import CD
from harness.vm.launch import kernel_arguments
from harness.vm.system import SystemVm

# What the serial console said while the golden snapshot was booted.
BOOT_LOG = "boot-console.log"
# What stands for the kernel's arguments where nobody gives any.
_OWN_LOADER = "the disk's own boot loader"


def ingredients(
    template: image.Image, bundle: Path, host: Hypervisor, engine: Engine,
    plans: Sequence[topology.Topology], declared: Network | None, release: str,
) -> dict[str, object]:  # fmt: skip
    """Return everything that a golden snapshot depends on."""
    row = catalogue.load().release(release)
    return {
        "image": template.digest,
        "kernel": kernel_arguments(template, engine.accelerator) if template.direct_boot else _OWN_LOADER,
        "bundle": digest_of_files([bundle / name for name in FILES]),
        "topology": [asdict(plan) for plan in plans],
        # What a server of the release tells a VM that starts, and how it reaches it.
        "server": [[plan.cmdline("", row) for plan in plans], row.ssh_key, row.transport],
        "network": repr(declared),
        "rules": repr(network.Orders(declared, release).start()) if declared else "",
        **host_parts(host, engine.accelerator, engine.technique),
    }


def host_parts(host: Hypervisor, accelerator: Accelerator, technique: Technique) -> dict[str, object]:
    """Return the ingredients that are the same for every snapshot that is made or used here."""
    return {
        "maker": digest_behind(__name__),
        "qemu": host.version(),
        "accelerator": asdict(accelerator),
        "processor": processor(accelerator),
        "technique": technique,
    }


@dataclass(frozen=True)
class Leaving:
    """The way in which a VM stays whose snapshot cannot be made.

    Attributes:
        name: what it is called.
        record: tells later commands of the VM, given the key that logs in and the run that owns it; returns the words
            for the person.
    """

    name: str
    record: Callable[[SystemVm, Path, RuntimeFolder], str]


@dataclass(frozen=True)
class GoldenMaker:
    """Boots a system VM from cold, gives it its rules, proves them, and freezes it.

    Attributes:
        leaving: how a VM stays that failed on the way; without it, it ends.
        keys: folder of the snapshot whose key pair logs in to this one, too; without it a pair is made.
        sender: whose server's command line it gets, where that is another release.
    """

    engine: Engine
    plan: topology.Topology
    image: image.Image
    release: Release
    bundle: Path
    network: Network | None
    narrator: Narrator
    results: ResultsFolder
    leaving: Leaving | None = None
    keys: Path | None = None
    sender: Release | None = None

    def make(self, folder: Path) -> dict[str, Any]:
        """Boot, configure, prove and freeze a system VM; returns what is kept beside the snapshot about it.

        Raises:
            InfrastructureError: a step fails; the console's log is among the results.
            CheckFailed: a rule of the network is not answered.
        """
        public_key = golden.copy_key(self.keys, folder) if self.keys else golden.make_key(folder)
        key = folder / golden.KEY_NAME
        if self.release.transport == "iso":
            make_iso(self.bundle, folder / CD)
        engine, name = self.engine, "golden"
        if self.leaving is not None:
            engine, name = replace(engine, owned=False), self.leaving.name
        vm = engine.start(name, self.plan, self.image, key, freeze_to=folder)
        try:
            with self.narrator.step("boot", self.plan.vm_name):
                boot.boot(
                    vm.machine, vm.guest, cmdline=self.plan.cmdline(public_key, self.sender or self.release),
                    release=self.release, bundle=self.bundle, public_key=public_key, progress=progress.say,
                )  # fmt: skip
                for tenant in vm.tenants.values():
                    tenant.wait_ready()
            if "management" in vm.uplinks:
                from harness.site.authority import Authority

                Authority().save(folder / AUTHORITY)
            # The network is there until all machines stand still: the snapshot has a connected agent.
            log = self.results.log(f"golden/{MANAGEMENT_LOG}")
            with management_of(vm, folder, log, agent=has_agent(self.bundle)):
                self._configure(vm)
                with self.narrator.step("freeze"):
                    vm.guest.run("sync")
                    shutil.copyfile(vm.console_log, folder / BOOT_LOG)
                    self.engine.freeze(vm, folder)
        except Exception:
            keep_logs(vm, self.results, "golden")
            if self.leaving is None:
                vm.stop()
            else:
                progress.say(self.leaving.record(vm, key, engine.run))
            raise
        except BaseException:
            vm.stop()
            raise
        return {
            "release": self.release.name,
            "type": self.plan.vm_type,
            "needs": [str(path) for path in self.image.files()],
        }

    def _configure(self, vm: SystemVm) -> None:
        """Do what the server does once a VM is up: give its VM agent a certificate, or its router rules."""
        site = site_of(vm)
        if site is not None:
            with self.narrator.step("give the agent its certificate"):
                site.authority.provision(
                    vm.guest, secrets.token_hex(16), once=self.release.transport == "iso"
                )
                # The guest's programs order a restart and do not wait; the VM agent of before connects, too, if it may.
                vm.guest.run(
                    "while systemctl list-jobs --no-legend cloud.service | grep -q .; do sleep 0.1; done"
                )
                vm.guest.wait_for_unit("cloud.service")
                site.connected()
        if self.network is not None:
            with self.narrator.step("apply the rules"):
                send_start(vm, self.network, self.release.name)
                far_daemons.start(vm, self.network)
            with self.narrator.step("prove the rules"):
                require(proofs.prove(vm, self.network))


def send_start(vm: SystemVm, declared: Network, release: str) -> None:
    """Send a VM that has just booted what a server of a release sends it, and plug in its NICs on the way.

    Raises:
        CheckFailed: a rule was not applied.
        InfrastructureError: the VM cannot be reached, or a NIC not be plugged in.
    """
    told = patch.ask_versions(vm.guest)
    orders = network.Orders(declared, release, int(time.time() * 1000), (told.template, told.scripts))
    network.deliver(vm.guest, orders.start(), lambda step: hotplug.plug(vm, step.device))


def require(answers: list[proofs.Proof]) -> None:
    """Raise when a rule was not answered.

    Raises:
        CheckFailed: names every such rule and what was seen.
    """
    failed = [f"{proof.name}: {proof.reason}" for proof in answers if proof.reason]
    if failed:
        raise CheckFailed("; ".join(failed))


def once(parts: Mapping[str, object], maker: GoldenMaker) -> golden.Golden:
    """Return the snapshot of these ingredients; one that cannot be made is tried once a run, whoever asks for it.

    Raises:
        InfrastructureError: it could not be made, now or when another worker of the run tried.
        CheckFailed: a rule of the network is not answered.
    """
    key = golden.key_of(parts)
    note = maker.results.log(f"golden/{key}-failed.txt")

    def make(folder: Path) -> dict[str, Any]:
        if note.exists():
            raise InfrastructureError(f"the golden snapshot could not be made before: {note.read_text()}")
        try:
            return maker.make(folder)
        except Exception as error:
            if not worth_another_attempt(error):
                note.write_text(str(error))
            raise

    return golden.get(key, make, parts)
