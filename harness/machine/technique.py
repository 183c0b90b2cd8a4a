"""The way of a guest's RAM into a golden snapshot: as a file that restores share, or as a full copy in the state.

The first needs two things of QEMU, which are asked for and not assumed: RAM in a file, and a migration that leaves such
RAM out. Where one is missing, snapshots are what ``virsh save`` makes: every restore reads all RAM again.
"""

from __future__ import annotations

import json
import os
from typing import Any, Literal, get_args

from bundle import files, programs
from bundle.errors import InfrastructureError, UsageError
from harness.host import cache
from harness.machine.domain import EMULATOR

Technique = Literal["shared-ram", "full-copy"]
_KNOWN: dict[str, Technique] = {word: word for word in get_args(Technique)}
FORCE = "SYSVM_SNAPSHOTS"
CAPABILITY = "x-ignore-shared"
BACKEND = "memory-backend-file"
_PROBE_DEADLINE = 20.0


def find(version: str, emulator: str = EMULATOR) -> Technique:
    """Return what this QEMU can; cached by its version. ``SYSVM_SNAPSHOTS`` overrides.

    Raises:
        UsageError: the override is no technique.
        InfrastructureError: QEMU does not answer.
    """
    forced = os.environ.get(FORCE)
    if forced:
        if forced not in _KNOWN:
            raise UsageError(f"invalid {FORCE} {forced!r} (expected {' or '.join(_KNOWN)})")
        return _KNOWN[forced]
    key = cache.key_of(version, emulator)
    known = cache.cache_root() / "accel" / f"technique-{key}"
    try:
        shared = known.read_text() == "shared-ram"
    except FileNotFoundError:
        shared = _can_share(emulator)
        known.parent.mkdir(parents=True, exist_ok=True)
        files.write(known, "shared-ram" if shared else "full-copy")
    return "shared-ram" if shared else "full-copy"


def _can_share(emulator: str) -> bool:
    answers = _ask(
        emulator,
        {"execute": "query-migrate-capabilities"},
        {"execute": "qom-list-types", "arguments": {"implements": "memory-backend"}},
    )
    capabilities, backends = ({row.get("capability") or row.get("name") for row in rows} for rows in answers)
    return CAPABILITY in capabilities and BACKEND in backends


def _ask(emulator: str, *requests: dict[str, Any]) -> list[list[dict[str, str]]]:
    """Start a QEMU without a machine, and return its answers."""
    lines = [
        json.dumps(request) for request in ({"execute": "qmp_capabilities"}, *requests, {"execute": "quit"})
    ]
    command = [emulator, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    told = programs.run(
        command, what=f"ask {emulator} what it can", stdin="\n".join(lines) + "\n", deadline=_PROBE_DEADLINE
    ).stdout
    answers = [json.loads(line) for line in told.splitlines()]
    returned = [answer["return"] for answer in answers if "return" in answer]
    if len(returned) < len(lines) - 1:
        raise InfrastructureError(f"{emulator} does not answer: {told.strip()[-200:]!r}")
    return returned[1 : len(requests) + 1]
