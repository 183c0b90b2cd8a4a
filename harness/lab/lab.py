"""What every scenario of a run shares: bundles, template image, accelerator, and the golden snapshot to restore.

``Lab`` walks the road once (bundle, image, boot, rules, proofs, snapshot); after that ``system_vm`` hands out restores
that cannot see each other.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bundle import catalogue
from bundle.catalogue import Release
from bundle.errors import CheckFailed, InfrastructureError, UsageError
from bundle.paths import payload_root
from bundle.ship.iso import make_iso
from harness import image, network
from harness.host import runs, slots
from harness.host.cache import digest_of_files
from harness.host.hypervisor import Hypervisor, hypervisor
from harness.image import images
from harness.kvmagent.patch import FILES
from harness.machine import accel, technique
from harness.machine.disks import scratch
from harness.network import Network
from harness.record import progress
from harness.record.events import EventLog
from harness.record.results import Results
from harness.traffic import proofs
from harness.vm import boot, golden, hotplug, reaper, taps, topology
from harness.vm.cables import Forward
from harness.vm.engine import CD, Engine, SystemVm, kernel_arguments
from harness.vm.spares import Spares

_TENANT_FILES = Path(__file__).parents[1] / "vm/tenant/guest"
# The network that is shipped for a VM type.
DEFAULT_NETWORKS = {"router": "router", "vpcrouter": "vpc", "ilbvm": "ilbvm", "dhcpsrvr": "dhcpsrvr"}
# What the serial console said while the golden snapshot was booted.
_BOOT_LOG = "boot-console.log"
# What stands for the kernel's arguments where nobody gives any.
_OWN_LOADER = "the disk's own boot loader"
# Who signed the agent's certificate, beside the snapshot that holds it.
_AUTHORITY = "authority.pem"
# What the guest itself logged, by the name among the results.
_GUEST_LOGS = {
    "livepatch.log": "cat /var/log/livepatchsystemvm.log",
    "cloud.log": "cat /var/log/cloud.log",
    "journal.log": "journalctl --no-pager -b -o short-precise",
}
_MANAGEMENT_LOG = "management-network.log"
# What a broken release looks like, by the service that cannot come back after it: file of the payload, and its content.
_BREAKAGES = {
    "haproxy": (
        Path("debian/etc/haproxy/conf.d/00-cloud.cfg"),
        "global\n    this-is-no-keyword of haproxy\n",
    ),
    "dnsmasq": (Path("debian/etc/dnsmasq.d/zz-broken.conf"), "this-is-no-option-of-dnsmasq\n"),
    "cloud": (Path("agent/_run.sh"), "#!/bin/bash\nexit 1\n"),
}


@dataclass(frozen=True)
class Wish:
    """What a person wants to see patched.

    Attributes:
        vm_type: as in the cmdline.
        from_release: what the system VM runs before the patch.
        to_release: what it is patched to.
        debian: another Debian than the catalogue's for the template.
        network: name or file of the declared network; None takes the one that is shipped for the type, if any.
        bundle: a finished bundle to patch with, instead of one built from the reference payload.
        template: name of an image of the cache to boot instead of the reference template, such as an imported one.
        network_backend: as in ``taps.find``.
    """

    vm_type: str
    from_release: str
    to_release: str
    debian: int | None = None
    network: str | None = None
    bundle: Path | None = None
    template: str | None = None
    network_backend: str | None = None

    def image(self, bundle: Path) -> image.Image:
        """Return the template: the named one, or one that is built with a bundle's scripts.

        Raises:
            UsageError: no such image, or one of another release.
        """
        if self.template is None:
            return image.build(image.ImageSpec(release=self.from_release, bundle=bundle, debian=self.debian))
        found = images.find(self.template)
        if found.release != self.from_release:
            raise UsageError(f"template {self.template} is of {found.release}, not of {self.from_release}")
        return images.load(found.folder)  # finding it was no use of it yet

    def declared(self) -> Network | None:
        """Return the declared network, or None for a type that has none.

        Raises:
            UsageError: there is no such network, or it is one of another VM type.
        """
        topology.of_type(self.vm_type)
        name = self.network or DEFAULT_NETWORKS.get(self.vm_type)
        declared = network.load(name) if name else None
        if declared is not None and declared.type != self.vm_type:
            raise UsageError(f"network {name!r} is declared for a {declared.type}, not for a {self.vm_type}")
        if declared is not None and declared.redundant is not None:
            raise UsageError(f"network {name!r} declares a redundant pair, which only scenarios start")
        return declared


@dataclass
class Narrator:
    """Tells a person and the event log the same story."""

    events: EventLog

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce, time and record one step."""
        with self.events.step(title), progress.step(title):
            yield


@dataclass(frozen=True)
class Lab:
    """The shared part of a run; see ``open_lab``."""

    wish: Wish
    results: Results
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
    plan: topology.Topology
    network: Network | None
    golden: golden.Golden

    @contextmanager
    def system_vm(
        self, name: str, logs: str | None = None, services: Sequence[Forward] = (), companions: int = 0
    ) -> Iterator[SystemVm]:
        """Yield a fresh copy of the golden snapshot.

        Args:
            name: of the VM.
            logs: folder of the results that its logs are kept in; named after the VM without one.
            services: what an agent VM finds on its management network besides the server.
            companions: copies that the caller will restore beside it, ``reserved``.
        """
        with ExitStack() as stack:
            if companions:
                # For all at once: two callers that had their first copies could wait for each other's room for ever.
                need = self.engine.need(self.plan, resume=True) * (1 + companions)
                stack.callback(slots.reserve(need, name).release)
                vm = self.restore(name, reserved=True)
            else:
                vm = self.spares.take(name)
            folder = logs or name
            try:
                log = self.results.log(f"{folder}/{_MANAGEMENT_LOG}")
                with management_of(vm, self.golden.folder, log, services):
                    yield vm
            finally:
                try:
                    self.keep_logs(vm, folder)
                finally:
                    vm.stop()

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

    def keep_logs(self, vm: SystemVm, folder: str) -> None:
        """Copy the console logs, and what the guest logged if it still answers, to a folder of the results."""
        keep_consoles(vm, self.results, folder)
        marker = secrets.token_hex(16)
        try:
            # One round trip: under emulation each costs a tenth of a second, and every scenario ends with them.
            told = vm.guest.run(
                f"\necho {marker}\n".join(_GUEST_LOGS.values()), deadline=30, check=False
            ).stdout
            texts = told.split(f"{marker}\n")
        except InfrastructureError as error:
            texts = [f"not to be had: {error}\n"] * len(_GUEST_LOGS)
        for name, text in zip(_GUEST_LOGS, texts, strict=False):
            self.results.log(f"{folder}/{name}").write_text(text)

    def broken_service(self) -> str:
        """Return the service that ``broken_bundle`` keeps down: the first of the type's that can be broken."""
        enabled = catalogue.load().services[self.wish.vm_type].enabled
        return next(word for word in enabled if word in _BREAKAGES)

    def broken_bundle(self) -> Path:
        """Return a bundle of the new release in which ``broken_service`` cannot start; built once."""
        target = self.folder / "bundle-broken"
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=self.folder) as copy:
                source = Path(copy) / "systemvm"
                shutil.copytree(payload_root(), source, symlinks=True)
                file, content = _BREAKAGES[self.broken_service()]
                (source / file).parent.mkdir(parents=True, exist_ok=True)
                (source / file).write_text(content)
                build_bundle(self.new.name, target, source=source)
        return target


def keep_consoles(vm: SystemVm, results: Results, folder: str) -> None:
    """Copy the console logs of a VM and its tenants to a folder of the results."""
    # Not by the names of the domains: those of a spare are other ones than the VM's that it became.
    labels = [vm.name, *(f"{vm.name}-{tenant}" for tenant in vm.tenant_machines)]
    for label, machine in zip(labels, vm.machines(), strict=True):
        source = machine.folder / "console.log"
        if source.exists():
            shutil.copyfile(source, results.log(f"{folder}/{label}-console.log"))


@contextmanager
def management_of(
    vm: SystemVm, snapshot: Path, log: Path, services: Sequence[Forward] = ()
) -> Iterator[None]:
    """Play the management network of a VM that has an agent, with the authority of its snapshot.

    Args:
        vm: the VM; one without a management network is left alone.
        snapshot: folder of the golden snapshot that it is from.
        log: file for what the network says.
        services: what the VM finds there besides its server, by address and port.
    """
    uplink = vm.uplinks.get("management")
    if uplink is None:
        yield
        return
    # Only VMs that have an agent need it.
    from harness.site.authority import Authority
    from harness.site.site import Site

    authority = Authority.load(snapshot / _AUTHORITY)
    with Site(
        authority, uplink.other_end, topology.MANAGEMENT_NETWORK, topology.MANAGEMENT_GATEWAY, log, services
    ) as site:
        vm.site = site
        yield


def build_bundle(
    release: str, target: Path, *, source: Path | None = None, script: Path | None = None
) -> Path:
    """Build a bundle of the reference payload, or of a copy of it."""
    from bundle.build import BuildOptions, build

    return build(BuildOptions(output=target, release=release, source=source, script=script)).folder


@contextmanager
def open_lab(wish: Wish, results: Results, events: EventLog, *, owned: bool = True) -> Iterator[Lab]:
    """Walk the road to the golden snapshot, or find it in the cache.

    Args:
        wish: what to patch.
        results: where logs go.
        events: where events go.
        owned: machines end with this process; not so for those that a person keeps.

    Raises:
        UsageError: an unknown release or VM type, or a network backend that cannot be.
        InfrastructureError: a step of the way fails; names step, VM and log.
        CheckFailed: a rule of the network is not answered before any patch.
    """
    facts = catalogue.load()
    old, new = facts.release(wish.from_release), facts.release(wish.to_release)
    backend = taps.find(wish.network_backend)
    declared = wish.declared()
    plan = topology.around(declared) if declared else topology.of_type(wish.vm_type)
    narrator = Narrator(events)
    with ExitStack() as stack:
        run = stack.enter_context(runs.open_run())
        folder = stack.enter_context(scratch(run.id))
        with narrator.step(f"build bundles {old.name} and {new.name}"):
            old_bundle = build_bundle(old.name, folder / "bundle-old")
            new_bundle = wish.bundle or build_bundle(new.name, folder / "bundle-new")
        with narrator.step(f"template image of {old.name}"):
            template = wish.image(old_bundle)
        host = stack.enter_context(hypervisor())
        stack.callback(reaper.close_run, host, run)
        reaper.reap(host)
        with narrator.step("acceleration"):
            answer = accel.of_template(template, host.uid, host.groups)
        progress.say(answer.reason)
        engine = Engine(host, run, answer.accelerator, owned, technique.find(host.version()), backend)
        events.emit("run", facts=_facts(wish, template, host, answer))
        key = golden.key_of(ingredients(template, old_bundle, host, engine, (plan,), declared))
        maker = _Maker(engine, plan, template, old, old_bundle, declared, narrator, results)
        with narrator.step("golden snapshot"):
            snapshot = golden.get(key, maker.make)
            shutil.copyfile(snapshot.folder / _BOOT_LOG, results.log(f"golden/{_BOOT_LOG}"))
        lab = Lab(
            wish, results, events, narrator, host, engine, old, new, old_bundle, new_bundle, folder, template,
            plan, declared, snapshot,
        )  # fmt: skip
        stack.callback(lab.spares.close)
        yield lab


def ingredients(
    template: image.Image, bundle: Path, host: Hypervisor, engine: Engine,
    plans: Sequence[topology.Topology], declared: Network | None,
) -> dict[str, object]:  # fmt: skip
    """Return everything that a golden snapshot depends on."""
    return {
        "image": template.digest,
        "kernel": kernel_arguments(template, engine.accelerator) if template.direct_boot else _OWN_LOADER,
        "bundle": digest_of_files([bundle / name for name in FILES]),
        "topology": [asdict(plan) for plan in plans],
        "network": repr(declared),
        "tenant": digest_of_files(sorted(_TENANT_FILES.glob("*.*"))),
        "qemu": host.version(),
        "accelerator": asdict(engine.accelerator),
        "technique": engine.technique,
    }


def _facts(wish: Wish, template: image.Image, host: Hypervisor, answer: accel.Answer) -> dict[str, str]:
    base = f"Debian {template.debian}" + (" (stand-in)" if template.stand_in else "")
    return {
        "path": f"{wish.vm_type} from {wish.from_release} to {wish.to_release}",
        "template": f"{base}, {template.digest[:12]}",
        "libvirt": host.uri,
        "accelerator": answer.reason,
    }


@dataclass(frozen=True)
class _Maker:
    """Boots a system VM from cold, gives it its rules, proves them, and freezes it."""

    engine: Engine
    plan: topology.Topology
    image: image.Image
    release: Release
    bundle: Path
    network: Network | None
    narrator: Narrator
    results: Results

    def make(self, folder: Path) -> dict[str, Any]:
        public_key = golden.make_key(folder)
        key = folder / golden.KEY_NAME
        if self.release.transport == "iso":
            make_iso(self.bundle, folder / CD)
        vm = self.engine.start("golden", self.plan, self.image, key, freeze_to=folder)
        try:
            with self.narrator.step(f"boot {self.plan.vm_name}"):
                boot.boot(
                    vm.machine, vm.guest, cmdline=self.plan.cmdline(public_key), release=self.release,
                    bundle=self.bundle, public_key=public_key, progress=progress.say,
                )  # fmt: skip
                for tenant in vm.tenants.values():
                    tenant.wait_ready()
            if "management" in vm.uplinks:
                from harness.site.authority import Authority

                Authority().save(folder / _AUTHORITY)
            # The network is there until all machines stand still: the snapshot has a connected agent.
            with management_of(vm, folder, self.results.log(f"golden/{_MANAGEMENT_LOG}")):
                self._configure(vm)
                with self.narrator.step("freeze"):
                    vm.guest.run("sync")
                    shutil.copyfile(vm.console_log, folder / _BOOT_LOG)
                    self.engine.freeze(vm, folder)
        except BaseException:
            keep_consoles(vm, self.results, "golden")
            vm.stop()
            raise
        return {
            "release": self.release.name,
            "type": self.plan.vm_type,
            "needs": [str(path) for path in self.image.files()],
        }

    def _configure(self, vm: SystemVm) -> None:
        """Do what the server does once a VM is up: give its agent a certificate, or its router rules."""
        if vm.site is not None:
            with self.narrator.step("give the agent its certificate"):
                vm.site.authority.provision(vm.guest, secrets.token_hex(16))
                # The guest's programs order a restart and do not wait; the agent of before connects, too, if it may.
                vm.guest.run(
                    "while systemctl list-jobs --no-legend cloud.service | grep -q .; do sleep 0.1; done"
                )
                vm.guest.wait_for_unit("cloud.service")
                vm.site.connected()
        if self.network is not None:
            if vm.unplugged:
                with self.narrator.step(f"plug in {len(vm.unplugged)} NICs"):
                    hotplug.plug_all(vm)
            with self.narrator.step("apply the rules"):
                network.apply(vm.guest, network.start_bags(self.network))
            with self.narrator.step("prove the rules"):
                require(proofs.prove(vm, self.network))


def require(answers: list[proofs.Proof]) -> None:
    """Raise when a rule was not answered.

    Raises:
        CheckFailed: names the first rule and what was seen.
    """
    failed = [proof for proof in answers if proof.reason]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise CheckFailed(f"{failed[0].name}: {failed[0].reason}{more}")
