"""A person's own probe of a unit: any command, by whose exit status the unit is well or not."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from bundle.errors import UsageError
from harness.rollout.units import PatchUnit

_NAMES = ("unit", "id", "kind", "zone", "vms")
# What a probe has no need to know.
_SECRETS = ("CLOUDSTACK_KEY", "CLOUDSTACK_SECRET", "CLOUDSTACK_PASSWORD")
_LINES, _LONGEST = 20, 300


@dataclass(frozen=True)
class Probed:
    """The answer of a probe: whether the unit is well, and the last lines."""

    well: bool
    reason: str
    lines: tuple[str, ...] = ()


def words_of(command: str, unit: PatchUnit) -> list[str]:
    """Return the words of a probe's command for a unit; no shell sees them.

    Raises:
        UsageError: it cannot be split, or names something that units do not have.
    """
    values = {
        "unit": unit.name,
        "id": unit.id,
        "kind": unit.kind,
        "zone": unit.zone_name,
        "vms": ",".join(member.name for member in unit.members),
    }
    try:
        return [word.format(**values) for word in shlex.split(command)]
    except (KeyError, IndexError, ValueError, AttributeError):
        known = ", ".join(f"{{{name}}}" for name in _NAMES)
        raise UsageError(f"invalid probe {command!r}", hint=f"it may name {known}") from None


def run_probe(command: str, unit: PatchUnit, timeout: float, hide: Callable[[str], str]) -> Probed:
    """Run a probe and return what it says.

    Args:
        command: with ``{unit}``, ``{id}``, ``{kind}``, ``{zone}`` and ``{vms}``.
        unit: that is probed.
        timeout: seconds.
        hide: takes secrets out of a text.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    try:
        done = subprocess.run(
            words_of(command, unit),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Probed(False, f"no end within {timeout:g} s")
    except OSError as error:
        return Probed(False, f"it cannot be started: {error.strerror}")
    text = hide(done.stdout.decode("utf-8", "replace"))
    lines = tuple(line[:_LONGEST] for line in text.splitlines()[-_LINES:])
    if done.returncode:
        return Probed(False, f"exit status {done.returncode}: {lines[-1] if lines else 'no output'}", lines)
    return Probed(True, "", lines)
