"""Patch time and bytes written by the patch script, against the rival that does what CloudStack 4.22's does.

Both scripts patch the same console proxy of the lab, with an agent of 0.7 MB and one of 150 MB that does not
compress. Soak time is 0 for ours, as the rival has none. Written bytes are those that all processes of a run
handed to the kernel, pipes among them. The lab's services are stand-ins, so downtime is measured on a VM.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import _agents, _ratio
from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import AGENT, FolderVm, workshop
from tests.guest.livepatch.vm_factory import LEGACY, VmFactory
from tests.guest.livepatch.walk import Stage

RUNS = {"0.7 MB": 5, "150 MB": 3}
PAYLOAD = 30_000_000  # bytes in the folders that the rival backs up, as measured on an idle router


@dataclass(frozen=True)
class Sample:
    """One run: seconds from start to end, and bytes written."""

    seconds: float
    written: int


def _fill(lab: FolderVm) -> None:
    """Give the VM logs, scripts and configuration of a usual size."""
    noise = random.Random(7)
    for number in range(120):
        path = lab.root / f"{('var/log', 'opt/data', 'etc/data')[number % 3]}/file-{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(
            noise.randbytes(PAYLOAD // 240) + b"text " * (PAYLOAD // 1200)
        )  # half of it compresses


def _measure(lab: FolderVm, bundle: bundles.Bundle) -> Sample:
    lab.land(bundle)
    command = (
        "bash /var/cache/cloud/patch-sysvms.sh >/run/lab/out 2>&1; status=$?;"
        "cat /proc/$$/io >/run/lab/io; exit $status"
    )
    begin = time.monotonic()
    process = lab.start("-c", command)
    process.communicate(timeout=600)
    seconds = time.monotonic() - begin
    if process.returncode:
        raise RuntimeError(f"the patch failed: {lab.read('run/lab/out')}")
    fields = dict(line.split(": ") for line in lab.read("run/lab/io").splitlines())
    return Sample(seconds, int(fields["wchar"]))


def main() -> None:
    """Print medians and ratios."""
    with workshop() as folder:
        stage = Stage(Path(folder))
        for label, size in _agents.SIZES.items():
            old = bundles.old_content().agent
            jars = {name: (data, 0o644) for name, data in _agents.jars(size, 2).items()}
            content = replace(bundles.new_content(), agent=old | jars)
            samples: dict[str, list[Sample]] = {"ours": [], "legacy": []}
            for script in ("ours", "legacy") * RUNS[label]:
                world = VmFactory(stage, LEGACY if script == "legacy" else None)
                with world.vm("consoleproxy") as lab:
                    _fill(lab)
                    for name, data in _agents.jars(size, 1).items():
                        (lab.root / AGENT / name).write_bytes(data)
                    samples[script].append(_measure(lab, world.make(content)))
            ours, rival = samples["ours"], samples["legacy"]
            _ratio.tell(f"{label}: seconds", [s.seconds for s in ours], [s.seconds for s in rival])
            _ratio.tell(f"{label}: bytes written", [s.written for s in ours], [s.written for s in rival])


if __name__ == "__main__":
    main()
