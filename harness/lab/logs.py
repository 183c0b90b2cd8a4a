"""The logs of a VM, kept among the results."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from bundle.errors import InfrastructureError
from harness.guest.protocols import Guest
from harness.record.results import ResultsFolder
from harness.vm.system import SystemVm

_LIVEPATCH_LOG = "/var/log/livepatchsystemvm.log"
# Enough for the words of a service that does not start.
_LINES = 200
# Each line of the script begins with the time and the number of its process.
_RUN = re.compile(r"\d{4}-\d\d-\d\dT[\d:]{8}\S* \[(\d+)\] ")
# What the guest itself logged, by the name among the results.
_GUEST_LOGS = {
    "livepatch.log": f"cat {_LIVEPATCH_LOG}",
    "cloud.log": "cat /var/log/cloud.log",
    "journal.log": "journalctl --no-pager -b -o short-precise",
}


def keep_logs(vm: SystemVm, results: ResultsFolder, folder: str) -> list[str]:
    """Copy the console logs, and what the guest logged if it still answers, to a folder of the results.

    Returns:
        The files, relative to the folder of the run.
    """
    kept = keep_consoles(vm, results, folder)
    marker = secrets.token_hex(16)
    try:
        # One round trip: under emulation each costs a tenth of a second, and every scenario ends with them.
        told = vm.guest.run(f"\necho {marker}\n".join(_GUEST_LOGS.values()), deadline=30, check=False).stdout
        texts = told.split(f"{marker}\n")
    except InfrastructureError as error:
        texts = [f"not to be had: {error}\n"] * len(_GUEST_LOGS)
    for name, text in zip(_GUEST_LOGS, texts, strict=False):
        file = results.log(f"{folder}/{name}")
        file.write_text(text)
        kept.append(file)
    return [str(file.relative_to(results.folder)) for file in kept]


def last_words(guest: Guest) -> tuple[str, ...]:
    """Return what the latest run of the patch script has logged, its last lines; each begins with time and number.

    A guest that does not answer says nothing of its patch: the line says so.
    """
    try:
        told = guest.run(f"tail -n {_LINES} {_LIVEPATCH_LOG}", deadline=30, check=False).stdout
    except InfrastructureError as error:
        return (f"the log {_LIVEPATCH_LOG} is not to be had: {error}",)
    return latest_run(told.splitlines())


def latest_run(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines of a log that the latest run of the script wrote, with what its programs wrote in between."""
    marks = [_RUN.match(line) for line in lines]
    numbers = [mark[1] for mark in marks if mark]
    if not numbers:
        return tuple(lines)
    last = numbers[-1]
    start = next(place for place, mark in enumerate(marks) if mark and mark[1] == last)
    return tuple(lines[start:])


def keep_consoles(vm: SystemVm, results: ResultsFolder, folder: str) -> list[Path]:
    """Copy the console logs of a VM and its tenants to a folder of the results; returns the copies."""
    kept = []
    # Not by the names of the domains: those of a spare are other ones than the VM's that it became.
    labels = [vm.name, *(f"{vm.name}-{tenant}" for tenant in vm.tenant_machines)]
    for label, machine in zip(labels, vm.machines(), strict=True):
        source = machine.folder / "console.log"
        if source.exists():
            kept.append(Path(shutil.copyfile(source, results.log(f"{folder}/{label}-console.log"))))
    return kept
