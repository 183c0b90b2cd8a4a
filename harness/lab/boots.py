"""Comparisons across a boot, which starts every process anew and makes files of its own."""

from __future__ import annotations

from dataclasses import replace

from harness.observe.files import FOLDERS
from harness.observe.observation import Observation

# The checks that can be made across a boot, by name or subject.
AFTER_A_BOOT = (
    "answer", "version", "files", "identity", "services.up", "services.none-failed", "services.listed",
)  # fmt: skip
# The check that a VM boots from what is on its disk.
COMES_UP = "reboot.comes-up"
# What a boot writes, below the folders that a live patch may touch: what it was told, and when it was done.
_MADE_BY_BOOT = ("/etc/cloudstack/", "/var/cache/cloud/boot_up_done")


def lasting(seen: Observation) -> Observation:
    """Return an observation with those paths only that a boot leaves alone and a live patch may touch."""
    kept = {
        path: entry
        for path, entry in seen.state.entries.items()
        if any(path == folder or path.startswith(f"{folder}/") for folder in FOLDERS)
        and not path.startswith(_MADE_BY_BOOT)
    }
    return replace(seen, state=replace(seen.state, entries=kept))
