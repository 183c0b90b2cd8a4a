"""Patches on virtual machines, against the rival that does what CloudStack 4.22's script does.

Both patch restores of the same golden snapshot from the default release to the newest: a router while HTTP requests go
through its load balancer, and a console proxy while its agent pings the management server, with an agent of 0.7 MB and
one of 150 MB before and after; and a router that is given its own release again with one file changed, or with two that
haproxy and dnsmasq read, by a script that renews what reads a changed file. Time is the guest's own, from start to end
of the script; the soak time is 0, as the rival has none. A request is lost when it is refused, broken off or not
answered; the agent is away until it is registered again. Written bytes are those that all processes of a run handed to
the kernel, pipes among them. Some runs have no service to restart: what is left is the cost of the script itself.
Nothing else should run meanwhile; ``SYSVM_BENCH_RUNS`` is the number of runs of each (3; of the large agent a third).
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle import catalogue
from bundle.build import BuildOptions, build
from bundle.paths import payload_root
from harness.kvmagent.patch import FILES, LANDING, read_files, upload
from harness.lab.lab import Lab, open_lab
from harness.lab.management_network import site_of
from harness.lab.wish import Wish
from harness.record import results
from harness.record.events import EventLog
from harness.site.site import PINGS
from harness.traffic import HttpProbe, ProbeResult, Traffic
from harness.vm.system import SystemVm
from tests.bench import _agents, _ratio

LEGACY = Path(__file__).resolve().parents[1] / "legacy" / "patch-sysvms.sh"
RATE = 20.0  # requests in a second: what an emulated router can answer
RUNS = int(os.environ.get("SYSVM_BENCH_RUNS", "3"))
# A restart of its service is most of a patch with the small agent, and next to nothing with the large one.
SMALL, LARGE = _agents.SIZES
AGENT_RUNS = {SMALL: RUNS, LARGE: max(1, RUNS // 3)}
AGENT = "usr/local/cloud/systemvm"
SCRIPT = f"{LANDING}/patch-sysvms.sh"
CLOCK = "read now _ </proc/uptime; echo $now"
WRITTEN = "while read -r key value; do [[ $key != wchar: ]] || echo $value; done </proc/$$/io"
TIMED = f"{CLOCK}; LIVEPATCH_SOAK=0 bash {SCRIPT} >/dev/null; status=$?; {CLOCK}; {WRITTEN}; exit $status"
# A service that is not active on these VMs: neither script restarts it.
NOTHING_TO_RESTART = f"echo conntrackd >{LANDING}/enabled_svcs"
# What differs in a bundle that changes little, by the names of its rows: nobody reads the first kind at a patch.
CHANGES = {
    "router, one file": ("opt/cloud/bin/checkrouter.sh",),
    "router, haproxy and dnsmasq": ("etc/haproxy/conf.d/zz-changed.cfg", "etc/dnsmasq.d/zz-changed.conf"),
}
# Where a guest finds the disk that is plugged in, and the seconds that it may take to.
DISK, PLUG_DEADLINE = "/dev/vdb", 30.0


@dataclass(frozen=True)
class Sample:
    """One run: seconds, bytes written, and what a probe saw meanwhile."""

    seconds: float
    written: float
    seen: ProbeResult


@dataclass(frozen=True)
class Scene:
    """One kind of run: what its rows are called, how often it is done, what comes with it, and who is watching."""

    title: str
    runs: int
    restarts: bool
    land: Callable[[SystemVm], None]
    watch: Callable[[SystemVm], Sample]


def _run(vm: SystemVm) -> tuple[float, float]:
    """Run the script that landed; returns its seconds and the bytes that it wrote."""
    began, ended, written = map(float, vm.guest.run(TIMED, deadline=600).stdout.split())
    return ended - began, written


def _compare(lab: Lab, scene: Scene) -> dict[str, list[Sample]]:
    """Let both scripts patch in turn, and print what they took."""
    samples: dict[str, list[Sample]] = {"ours": [], "rival": []}
    for number in range(scene.runs):
        for script, taken in samples.items():
            with lab.system_vm(f"bench-{script}-{number}") as vm:
                if not scene.restarts:
                    vm.guest.run(NOTHING_TO_RESTART)
                scene.land(vm)
                if script == "rival":
                    vm.guest.put(LEGACY.read_bytes(), SCRIPT, 0o755)
                taken.append(scene.watch(vm))
    without = "" if scene.restarts else " without restarts"
    _tell(f"{scene.title}: seconds{without}", samples, lambda run: run.seconds)
    return samples


def _tell(what: str, samples: dict[str, list[Sample]], value: Callable[[Sample], float]) -> None:
    _ratio.tell(what, *(list(map(value, samples[script])) for script in ("ours", "rival")))


@contextmanager
def _lab(vm_type: str) -> Iterator[Lab]:
    facts = catalogue.load()
    with tempfile.TemporaryDirectory(prefix="sysvm-bench-") as folder:
        record = results.create(Path(folder))
        with (
            EventLog(record.events) as events,
            open_lab(Wish(vm_type, facts.default_from, facts.default), record, events) as lab,
        ):
            yield lab


def _router() -> None:
    with _lab("router") as lab:
        network = lab.network
        assert network is not None
        (balancer, *_) = network.load_balancers

        def watch(vm: SystemVm) -> Sample:
            port = vm.endpoints[(str(balancer.public), balancer.port)]
            with Traffic(
                [HttpProbe("load balancer", "127.0.0.1", port, expect=b"tenant", rate=RATE)]
            ) as traffic:
                seconds, written = _run(vm)
            return Sample(seconds, written, *traffic.results)

        def land(vm: SystemVm) -> None:
            upload(vm.guest, read_files(lab.new_bundle))

        _compare(lab, Scene("router", RUNS, restarts=False, land=land, watch=watch))
        samples = _compare(lab, Scene("router", RUNS, restarts=True, land=land, watch=watch))
        _tell("router: bytes written", samples, lambda run: run.written)
        _tell("router: requests lost", samples, lambda run: run.seen.lost)
        _tell("router: longest gap, ms", samples, lambda run: run.seen.longest_gap_ms)

        for title, paths in CHANGES.items():
            bundle = read_files(_changed(lab, paths))

            def land_changed(vm: SystemVm, bundle: dict[str, bytes] = bundle) -> None:
                upload(vm.guest, bundle)

            samples = _compare(lab, Scene(title, RUNS, restarts=True, land=land_changed, watch=watch))
            _tell(f"{title}: requests lost", samples, lambda run: run.seen.lost)


def _changed(lab: Lab, paths: Sequence[str]) -> Path:
    """Return a bundle of the release that VMs boot with, in which these files alone are changed or new."""
    with tempfile.TemporaryDirectory(dir=lab.folder) as scratch:
        source = Path(scratch) / "systemvm"
        shutil.copytree(payload_root(), source, symlinks=True)
        for path in paths:
            (source / "debian" / path).parent.mkdir(parents=True, exist_ok=True)
            with (source / "debian" / path).open("a") as file:
                file.write("# changed\n")
        target = lab.folder / f"changed-{len(paths)}"
        return build(BuildOptions(target, source, lab.old.name, restart="changed", cache=False)).folder


def _watch_agent(vm: SystemVm) -> Sample:
    site = site_of(vm)
    assert site is not None
    before = site.connected()
    with Traffic([], reported={"agent": PINGS}) as traffic, site.followed(traffic.recorder("agent")):
        traffic.settle(10 / PINGS)
        seconds, written = _run(vm)
        site.link_since(before)
    return Sample(seconds, written, *traffic.results)


def _console_proxy() -> None:
    with _lab("consoleproxy") as lab:
        for label, size in _agents.SIZES.items():
            disk = _disk(lab, size)

            def land(vm: SystemVm, disk: Path = disk) -> None:
                _plug(vm, disk)

            title, runs = f"agent of {label}", AGENT_RUNS[label]
            if label == SMALL:
                _compare(lab, Scene(title, runs, restarts=False, land=land, watch=_watch_agent))
            samples = _compare(lab, Scene(title, runs, restarts=True, land=land, watch=_watch_agent))
            _tell(f"{title}: bytes written", samples, lambda run: run.written)
            _tell(f"{title}: away, ms", samples, lambda run: run.seen.longest_gap_ms)
            disk.unlink()


def _disk(lab: Lab, size: int) -> Path:
    """Return a disk that holds a tar: the installed jars, and a bundle of the new release with other jars in its agent.

    Over SSH under emulation 150 MB take 20 s; a disk is read in two or three.
    """
    place = lab.folder / "agent.tar"
    with tempfile.TemporaryDirectory(dir=lab.folder) as scratch, tarfile.open(place, "w") as archive:
        source = Path(scratch) / "systemvm"
        shutil.copytree(payload_root(), source, symlinks=True)
        for name, data in _agents.jars(size, 2).items():
            (source / "agent" / name).write_bytes(data)
        built = build(BuildOptions(Path(scratch) / "bundle", source, lab.new.name, cache=False)).folder
        for name in FILES:
            _add(archive, f"{LANDING.lstrip('/')}/{name}", (built / name).read_bytes(), 0o755)
        for name, data in _agents.jars(size, 1).items():
            _add(archive, f"{AGENT}/{name}", data, 0o644)
    return place


def _add(archive: tarfile.TarFile, path: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def _plug(vm: SystemVm, disk: Path) -> None:
    """Plug a disk into a VM, and unpack what is on it."""
    file = {"driver": "file", "filename": str(disk), "node-name": "landing", "read-only": True}
    vm.machine.monitor("blockdev-add", **file)
    vm.machine.monitor("device_add", driver="virtio-blk-pci", id="landing", drive="landing")
    vm.guest.wait_for_file(DISK, PLUG_DEADLINE)
    vm.guest.run(f"tar -xf {DISK} -C / && sync", deadline=120)


def main() -> None:
    """Print medians and ratios."""
    _router()
    _console_proxy()


if __name__ == "__main__":
    main()
