"""The common part of a run's scenarios: bundles, template image, accelerator, and the golden snapshot to restore.

``Lab`` walks the road once (bundle, image, boot, rules, proofs, snapshot); after that ``system_vm`` hands out restores
that cannot see each other.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from bundle import catalogue, layout
from bundle.archive.digest import file_digest
from bundle.catalogue import Release
from harness import image
from harness.checks import Case
from harness.host import runtime, slots
from harness.host.hypervisor import Hypervisor, hypervisor
from harness.lab import bundles, faults, logs, tested
from harness.lab.golden_maker import BOOT_LOG, GoldenMaker, Leaving, ingredients, once
from harness.lab.management_network import MANAGEMENT_LOG, management_of
from harness.lab.shared import Shared
from harness.lab.wish import Wish
from harness.machine import accel, technique
from harness.machine.disks import scratch
from harness.network import Network
from harness.record import progress
from harness.record.events import EventLog
from harness.record.progress import Narrator
from harness.record.results import ResultsFolder
from harness.vm import backends, golden, reaper
from harness.vm.around import around
from harness.vm.cables import HostForward
from harness.vm.engine import Engine
from harness.vm.spares import Spares
from harness.vm.system import SystemVm
from harness.vm.topology import Topology
from harness.vm.types import of_type

NO_AGENT = "the VM is judged without its agent: agent.zip has no jars (--agent-jars adds them)"


@dataclass(frozen=True)
class Lab:
    """The shared part of a run; see ``open_lab``."""

    wish: Wish
    results: ResultsFolder
    events: EventLog
    narrator: Narrator
    host: Hypervisor
    engine: Engine
    old: Release
    new: Release
    old_bundle: Path
    new_bundle: Path
    folder: Path
    image: image.Image
    plan: Topology
    network: Network | None
    golden: golden.Golden

    @contextmanager
    def system_vm(
        self, name: str, logs: str | None = None, services: Sequence[HostForward] = (), companions: int = 0, *,
        untouched: bool = False,
    ) -> Iterator[SystemVm]:  # fmt: skip
        """Yield a fresh copy of the golden snapshot.

        Args:
            name: of the VM.
            logs: folder of the results that its logs are kept in; named after the VM without one.
            services: what an agent VM finds on its management network besides the server.
            companions: copies that the caller will restore beside it, ``reserved``.
            untouched: the caller leaves the VM as it was: one that is proven to be so is handed on to the next such
                caller, and one that was handed on is yielded instead of a fresh copy.
        """
        folder = logs or name
        vm, life = (self.shared.take(name) if untouched else None) or self._begin(
            name, folder, services, companions
        )
        try:
            yield vm
        finally:
            try:
                self.keep_logs(vm, folder)
            finally:
                if untouched and vm in self.between:
                    self.shared.give(vm, life)
                else:
                    life.close()

    def _begin(
        self, name: str, folder: str, services: Sequence[HostForward], companions: int
    ) -> tuple[SystemVm, ExitStack]:
        """Return a fresh copy, and what ends it with all that is around it."""
        with ExitStack() as stack:
            if companions:
                # For all at once: two callers that had their first copies could wait for each other's room for ever.
                need = self.engine.need(self.plan, resume=True) * (1 + companions)
                stack.callback(slots.reserve(need, name).release)
                vm = self.restore(name, reserved=True)
            else:
                vm = self.spares.take(name)
            stack.callback(vm.stop)
            log = self.results.log(f"{folder}/{MANAGEMENT_LOG}")
            stack.enter_context(management_of(vm, self.golden.folder, log, services, agent=self.has_agent))
            return vm, stack.pop_all()

    def restore(self, name: str, *, patience: float = slots.DEADLINE, reserved: bool = False) -> SystemVm:
        """Return a fresh copy of the golden snapshot, for the caller to stop; see ``Engine.restore``."""
        golden = self.golden
        return self.engine.restore(
            name, self.plan, self.image, golden.ssh_key, golden.folder, patience=patience, reserved=reserved
        )

    @cached_property
    def spares(self) -> Spares:
        """Copies that are made before they are asked for."""
        return Spares(self.restore)

    @cached_property
    def shared(self) -> Shared:
        """The copy that scenarios which change nothing hand on."""
        return Shared()

    @cached_property
    def between(self) -> WeakKeyDictionary[SystemVm, tuple[Case, int]]:
        """The latest case of each VM that is proven to be as it was before anything was done to it.

        With it comes how much its console had printed by then.
        """
        return WeakKeyDictionary()

    def keep_logs(self, vm: SystemVm, folder: str) -> None:
        """Copy the console logs, and what the guest logged if it still answers, to a folder of the results."""
        self.events.emit("logs", files=logs.keep_logs(vm, self.results, folder))

    def is_there_already(self) -> bool:
        """Say whether the VM runs the very scripts that it is to be patched with."""
        if self.old.name != self.new.name:
            return False
        old, new = (
            file_digest(folder / layout.SCRIPTS, "sha256") for folder in (self.old_bundle, self.new_bundle)
        )
        return old == new

    @cached_property
    def has_agent(self) -> bool:
        """True if the VM has an agent that can start."""
        return "agent" in catalogue.vm_type(self.wish.vm_type).has and bundles.has_agent(self.old_bundle)

    @cached_property
    def fault(self) -> faults.Fault:
        """The fault of ``broken_bundle``.

        Raises:
            UsageError: nothing of the VM can be broken on purpose.
        """
        with tarfile.open(self.new_bundle / layout.SCRIPTS, "r:gz") as archive:
            shipped = {name.removeprefix("./") for name in archive.getnames()}
        return faults.breakable(self.wish.vm_type, shipped, down=() if self.has_agent else ("cloud",))

    def broken_service(self) -> str:
        """Return the service that ``broken_bundle`` keeps down."""
        return self.fault.service

    def broken_bundle(self) -> Path:
        """Return a bundle of the new release in which ``broken_service`` cannot start; built once."""
        return self.faulty_bundle(self.fault)

    def faulty_bundle(self, fault: faults.Fault) -> Path:
        """Return the bundle under test with a fault in it; built once."""
        target = self.folder / f"bundle-{fault.name}"
        return faults.build_broken(self.new_bundle, fault, target, self.new.signature)


@contextmanager
def open_lab(
    wish: Wish, results: ResultsFolder, events: EventLog, *, owned: bool = True, leaving: Leaving | None = None
) -> Iterator[Lab]:  # fmt: skip
    """Walk the road to the golden snapshot, or find it in the cache.

    Args:
        wish: what to patch.
        results: where logs go.
        events: where events go.
        owned: machines end with this process; not so for those that a person keeps.
        leaving: how the VM stays that no golden snapshot could be made of.

    Raises:
        UsageError: an unknown release or VM type, or a network backend that cannot be.
        InfrastructureError: a step of the way fails; names step, VM and log.
        CheckFailed: a rule of the network is not answered before any patch.
    """
    wish.subject.check(template=wish.template is not None)
    facts = catalogue.load()
    old, new = facts.release(wish.from_release), facts.release(wish.to_release)
    backend = backends.find(wish.network_backend)
    declared = wish.declared()
    plan = around(declared) if declared else of_type(wish.vm_type)
    narrator = Narrator(events)
    with ExitStack() as stack:
        run = stack.enter_context(runtime.open_run())
        folder = stack.enter_context(scratch(run.id))
        old_bundle, new_bundle, template = _prepare(wish, old, new, folder, narrator)
        host = stack.enter_context(hypervisor())
        stack.callback(reaper.close_run, host, run)
        reaper.reap(host)
        with narrator.step("acceleration"):
            answer = accel.of_template(template, host.uid, host.groups)
        progress.say(answer.reason)
        engine = Engine(host, run, answer.accelerator, owned, technique.find(host.version()), backend)
        events.emit("run", facts=_facts(wish, template, host, answer, old_bundle))
        events.emit("subject", subject=_subject(wish, template, host, answer, old_bundle, new_bundle))
        parts = ingredients(template, old_bundle, host, engine, (plan,), declared, old.name)
        maker = GoldenMaker(engine, plan, template, old, old_bundle, declared, narrator, results, leaving)
        with narrator.step("golden snapshot"):
            snapshot = once(parts, maker)
            shutil.copyfile(snapshot.folder / BOOT_LOG, results.log(f"golden/{BOOT_LOG}"))
        events.emit("golden", key=snapshot.folder.name)
        lab = Lab(
            wish, results, events, narrator, host, engine, old, new, old_bundle, new_bundle, folder, template,
            plan, declared, snapshot,
        )  # fmt: skip
        stack.callback(lab.spares.close)
        stack.callback(lab.shared.close)
        yield lab


def _prepare(
    wish: Wish, old: Release, new: Release, folder: Path, narrator: Narrator
) -> tuple[Path, Path, image.Image]:
    """Return the bundle to boot with, the bundle to patch with, and the template."""
    with narrator.step(f"build bundles {old.name} and {new.name}"):
        new_bundle = bundles.to_patch_with(wish.subject, new.name, folder / "bundle-new")
        if wish.template is None:
            old_bundle = bundles.to_boot_with(wish.subject, old.name, folder / "bundle-old")
    with narrator.step(f"template image of {old.name}"):
        if wish.template is None:
            return old_bundle, new_bundle, wish.built_image(old_bundle)
        template = wish.named_image(wish.template)
        if wish.subject.from_bundle or wish.subject.from_source:
            old_bundle = bundles.to_boot_with(wish.subject, old.name, folder / "bundle-old")
        else:
            old_bundle = bundles.baked(template, folder / "bundle-old")
    return old_bundle, new_bundle, template


def _facts(
    wish: Wish, template: image.Image, host: Hypervisor, answer: accel.Answer, old: Path
) -> dict[str, str]:
    base = f"Debian {template.debian}" + (" (stand-in)" if template.stand_in else "")
    without = "agent" in catalogue.vm_type(wish.vm_type).has and not bundles.has_agent(old)
    said = {"agent": NO_AGENT} if without else {}
    if without:
        progress.say(NO_AGENT)
    return {
        "path": f"{wish.vm_type} from {wish.from_release} to {wish.to_release}",
        "template": f"{base}, {template.digest[:12]}",
        "libvirt": host.uri,
        "accelerator": answer.reason,
        **said,
    }


def _subject(
    wish: Wish, template: image.Image, host: Hypervisor, answer: accel.Answer, old: Path, new: Path
) -> dict[str, Any]:
    """Return what is tested in this cell, with which tool and where: what makes the report a proof."""
    return {
        "cell": f"{wish.vm_type}-from-{wish.from_release}",
        "bundle": tested.bundle_facts(new),
        "boot": tested.bundle_facts(old),
        "template": {
            "label": template.label(),
            "digest": template.digest,
            "stand_in": template.stand_in,
        },
        "tool": tested.tool_facts(),
        "host": tested.host_facts(host, answer.accelerator.name),
    }
