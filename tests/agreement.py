"""What ``bundle diff`` says before a patch, held against what a run saw of it, service by service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle import catalogue
from harness.record import events

# What is seen of a service after what is said that happens to it.
_SEEN = {"reload": "reloaded", "restart": "restarted"}


def told(document: Mapping[str, Any], vm_type: str, services: str) -> dict[str, str]:
    """Return what a patch does to each service that a VM has, by the document of ``bundle diff --json``.

    Args:
        document: what the command printed.
        vm_type: type of the VM.
        services: the VM's row in the catalogue's table ``services``.
    """
    enabled = catalogue.load().services[services].enabled
    found = dict.fromkeys(enabled, "unchanged")
    for row in document["renewals"]:
        if row["service"] in found and vm_type in row["types"]:
            found[row["service"]] = _SEEN[row["effect"]]
    return found


def seen(log: Path, scenario: str) -> list[dict[str, str]]:
    """Return what happened to each service in every patch of a scenario, by the event log of a run."""
    rows = [event for event in events.read(log) if event.kind == "services"]
    return [dict(event["changes"]) for event in rows if event["scenario"] == scenario]
