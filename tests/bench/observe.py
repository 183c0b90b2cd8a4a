"""The observation of a router, beside one that looks at a list of things, as it was before everything was looked at.

The list: six folders with the digests of what is in them, the services, TCP and UDP ports, rules, identity, journal.
All kinds, and whole ones whose guest lists its disk itself, are taken in turns of one restored router that stands
still, through the same connection; a second and later observation reads again only what was written since.
``SYSVM_BENCH_RUNS`` is how often each is taken (10).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bundle import catalogue
from harness.guest.collect import collect
from harness.lab.lab import open_lab
from harness.lab.wish import Wish
from harness.observe import files, observation
from harness.observe.files import DiskState
from harness.record import results
from harness.record.events import EventLog
from harness.vm.system import SystemVm
from tests.bench import _ratio

RUNS = int(os.environ.get("SYSVM_BENCH_RUNS", "10"))
# What the list did not have: subjects, and single sections of others.
SINCE = (
    "kernel.", "processes.", "flows", "sockets.unix", "sockets.raw", "sockets.packet", "rules.neighbours",
    "rules.xfrm", "rules.shaping", "rules.legacy",
)  # fmt: skip
SERVICES = (
    "systemctl show --no-pager --property=Id,Names,LoadState,ActiveState,SubState,UnitFileState,MainPID,"
    "InvocationID,ActiveEnterTimestamp,ControlGroup,NRestarts '*.service'"
)


def of_a_list() -> dict[str, str]:
    """Return the commands of an observation that looks at a list."""
    kept = {name: text for name, text in observation.commands().items() if not name.startswith(SINCE)}
    return kept | files.commands() | {"services.units": SERVICES}


def looked_at(state: DiskState) -> Mapping[str, int]:
    """Return how many paths and files were looked at, and the bytes of the files, by how."""
    found = [(entry.sha256, int(entry.stamp.size)) for entry in state.entries.values() if entry.stamp]
    regular = [entry for entry in state.entries.values() if entry.type == "file"]
    return {
        "paths": len(found),
        "files": len(regular),
        "bytes": sum(int(entry.stamp.size) for entry in regular if entry.stamp),
        "bytes by digest": sum(size for digest, size in found if digest),
    }


def measure(vm: SystemVm) -> None:
    """Take the observations in turns, and print medians."""
    whole, later, listed, asked, asked_later = [], [], [], [], []
    first, shown = observation.observe(vm.guest), vm.guest.disk
    for _ in range(RUNS):
        began = time.monotonic()
        collect(vm.guest, of_a_list())
        middle = time.monotonic()
        observation.observe(vm.guest)
        third = time.monotonic()
        observation.observe(vm.guest, first)
        fourth = time.monotonic()
        vm.guest.disk = None  # its own programs list the disk
        observation.observe(vm.guest)
        fifth = time.monotonic()
        observation.observe(vm.guest, first)
        asked_later.append(time.monotonic() - fifth)
        vm.guest.disk = shown
        listed.append(middle - began)
        whole.append(third - middle)
        later.append(fourth - third)
        asked.append(fifth - fourth)
    _ratio.tell("first observation, seconds (at most 1.5)", whole, listed)
    _ratio.tell("later observation, seconds (at most 1.5)", later, listed)
    _ratio.tell("first, beside one whose guest lists its disk", whole, asked)
    _ratio.tell("later, beside one whose guest lists its disk", later, asked_later)
    seen = looked_at(first.state)
    folders = looked_at(files.take(vm.guest))
    for what, count in seen.items():
        print(f"{what:42} ours {count:14,}   rival {folders[what]:14,}")


def main() -> None:
    """Measure and print."""
    facts = catalogue.load()
    with tempfile.TemporaryDirectory() as folder:
        record = results.create(Path(folder))
        wish = Wish("router", facts.default_from, facts.default)
        with (
            EventLog(record.events) as events,
            open_lab(wish, record, events) as lab,
            lab.system_vm("bench-observe") as vm,
        ):
            measure(vm)
