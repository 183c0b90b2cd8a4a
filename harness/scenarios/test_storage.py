"""Secondary storage: a share stays mounted and takes what is written all through the patch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.errors import InfrastructureError
from harness.lab.lab import NO_AGENT
from harness.lab.management_network import site_of
from harness.scenario import HostForward, Lab, Trial
from harness.site import nfs

_SERVER, _PORT = "10.0.0.6", 2049
_URL = f"nfs://{_SERVER}{nfs.EXPORT}"
_STAND_IN = "/mnt/SecStorage/0f9d6c1e"
# Seconds without a write: a patch restarts the VM agent, but nothing that a mount hangs on.
_LONGEST_GAP = 5.0


@pytest.fixture
def share(tmp_path: Path) -> Iterator[int | None]:
    """The loopback port of a share of a real NFS server; None where none is installed."""
    if not nfs.installed():
        yield None
        return
    with nfs.serve(tmp_path) as port:
        yield port


@pytest.fixture
def management_services(share: int | None) -> Sequence[HostForward]:
    """The share, as the VM finds it on its management network."""
    return [HostForward(share, _SERVER, _PORT)] if share else []


@pytest.mark.scenario(
    "S26-storage-stays-mounted",
    types=catalogue.load().types_that(have="storage"),
    why="only secondary storage has mounts",
)
def test_storage_stays_mounted_and_writable(lab: Lab, live_patch: Trial, share: int | None) -> None:
    """A program writes to an NFS share all through the patch: it is never mounted anew, and no write fails."""
    if not lab.has_agent:
        pytest.skip(NO_AGENT)
    guest = live_patch.vm.guest
    folder = _mounted(lab, live_patch, share)
    # Writes ten lines a second, each with its time; says when a write fails. It keeps the folder open: else the kernel
    # could give the number of this mount to the next one.
    write = f"date +%s.%N >>{folder}/written || echo failed >>/run/writer-failed"
    writer = f"exec 5<{folder}; while :; do {write}; sleep 0.1; done"
    guest.run(f"nohup sh -c '{writer}' >/dev/null 2>&1 </dev/null & echo $! >/run/writer.pid")
    # The number that the kernel gives a mount: another one means that it was mounted anew.
    number = f"awk '$5 == \"{folder}\" {{ print $1 }}' /proc/self/mountinfo"
    before = guest.run(number).stdout
    live_patch.require("storage.mounted-before", "" if before else "it is not mounted")
    live_patch.patch(lab.new_bundle)
    same = guest.run(number).stdout == before
    live_patch.require("storage.mounted-after", "" if same else "it is mounted anew, or not at all")
    live_patch.require(
        "storage.writable", "" if _grows(live_patch, folder) else "nothing is written any more"
    )
    failed = guest.run("cat /run/writer-failed 2>/dev/null | wc -l").stdout.strip()
    live_patch.require("storage.written", "" if failed == "0" else f"{failed} writes failed")
    longest = float(
        guest.run(
            f"awk 'NR > 1 && $1 - last > gap {{ gap = $1 - last }} {{ last = $1 }} END {{ print gap + 0 }}' "
            f"{folder}/written"
        ).stdout
    )
    live_patch.require("storage.gap", "" if longest <= _LONGEST_GAP else f"no write for {longest:.1f} s")
    _require_known(live_patch, share)
    # Nothing may hang on the share when its server goes.
    again = f"while mountpoint -q {folder} && ! umount {folder}; do sleep 0.1; done 2>/dev/null"
    guest.run(f"kill $(cat /run/writer.pid); {again}", deadline=30)


def _mounted(lab: Lab, trial: Trial, share: int | None) -> str:
    """Let the VM agent mount the share, as the server would; return its folder."""
    if share is None:
        with lab.narrator.step(
            "S26: nfs-ganesha is not installed: a file system in memory stands in for NFS"
        ):
            trial.vm.guest.run(f"mkdir -p {_STAND_IN} && mount -t tmpfs stand-in {_STAND_IN}")
        return _STAND_IN
    with lab.narrator.step("S26: the agent mounts a share of nfs-ganesha"):
        answer = _ask(trial, "mount", url=_URL)
        folder = str(answer.get("path"))
        kind = trial.vm.guest.run(f"findmnt -n -o FSTYPE {folder}", check=False).stdout.strip()
    trial.require("storage.nfs", "" if kind == "nfs4" else f"{folder} is {kind or 'no mount'}: {answer}")
    return folder


def _require_known(trial: Trial, share: int | None) -> None:
    """Require that the VM agent, which was restarted, still looks after the share."""
    if share is None:
        trial.skip("storage.known", "the agent knows no file system in memory; nfs-ganesha is not installed")
        return
    answer = _ask(trial, "check_health")
    well = answer.get("result") is True and answer.get("shares") == [_URL]
    trial.require("storage.known", "" if well else f"the agent says {answer}")


def _ask(trial: Trial, command: str, **fields: str) -> dict[str, object]:
    """Ask the VM agent something as the server does."""
    site = site_of(trial.vm)
    if site is None:
        raise InfrastructureError(f"{trial.vm.name}: nobody plays the management network")
    site.connected()
    return site.agents.ask(command, 60, **fields)


def _grows(trial: Trial, folder: str) -> bool:
    count = f"wc -l <{folder}/written"
    done = trial.vm.guest.run(f"a=$({count}); sleep 1; b=$({count}); [ $b -gt $a ]", check=False)
    return done.status == 0
