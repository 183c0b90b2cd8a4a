"""What a scenario plays with: fresh VMs and bundles, with the product's script or with the rival's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import JOURNAL, FolderVm, ScriptRun
from tests.guest.livepatch.walk import Stage

LEGACY = Path(__file__).resolve().parents[2] / "legacy" / "patch-sysvms.sh"
Script = Literal["ours", "legacy"]


class Violation(AssertionError):
    """The VM did not behave as the scenario expects."""


@dataclass(frozen=True)
class VmFactory:
    """Fresh VMs, and bundles that carry the script under test."""

    stage: Stage
    script: Script = "ours"

    def vm(self, type_: str = "router") -> contextlib.AbstractContextManager[FolderVm]:
        """Give a VM of the old release for the length of a ``with`` block."""
        return self.stage.clone(type_)

    def dress(self, bundle: bundles.Bundle) -> bundles.Bundle:
        """Return the bundle with the script under test."""
        return bundle if self.script == "ours" else replace(bundle, script=LEGACY.read_text())

    def make(self, content: bundles.Content) -> bundles.Bundle:
        """Build a bundle."""
        return self.dress(bundles.make(content))

    def new(self) -> bundles.Bundle:
        """Return the healthy new bundle."""
        return self.dress(bundles.new())

    def broken(self) -> bundles.Bundle:
        """Return the bundle after which services do not start."""
        return self.dress(bundles.broken())


@dataclass(frozen=True)
class Scenario:
    """One scenario: the row that it plays, what it shows, and whether the rival is known to fail it."""

    row: str
    name: str
    play: Callable[[VmFactory], None]
    legacy_fails: bool


SCENARIOS: list[Scenario] = []


def scenario(
    row: str, *, legacy_fails: bool = False
) -> Callable[[Callable[[VmFactory], None]], Callable[[VmFactory], None]]:
    """Register a function as the play of a row of the scenario table."""

    def register(function: Callable[[VmFactory], None]) -> Callable[[VmFactory], None]:
        SCENARIOS.append(Scenario(row, function.__name__, function, legacy_fails))
        return function

    return register


def expect(condition: object, message: str) -> None:
    """Raise ``Violation`` unless the condition holds."""
    if not condition:
        raise Violation(message)


def expect_same(before: object, after: object, what: str) -> None:
    """Raise ``Violation`` unless two values are equal; states are compared path by path."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        paths = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        raise Violation(f"{what} changed: {paths[:8]}")
    raise Violation(f"{what} changed from {before!r} to {after!r}")


def expect_patched(run: ScriptRun, bundle: bundles.Bundle, lab: FolderVm) -> None:
    """The run succeeded, said so in the one line, and the VM agrees."""
    expect(run.status == 0, f"exit {run.status}, {run.output!r}")
    expect(run.output == f"version:{bundle.signature} \n", f"the output is {run.output!r}")
    expect(lab.signature() == bundle.signature, "the signature file does not hold the bundle's digest")


@contextlib.contextmanager
def expect_refused(lab: FolderVm, reason: str) -> Iterator[Callable[[ScriptRun], None]]:
    """The run inside is refused for this reason; nothing changes, and the inputs lie where no boot finds them."""
    before, active, rules = lab.state(), lab.active(), lab.filter_rules()
    landed: set[str] = set()

    def check(run: ScriptRun) -> None:
        expect(run.status == 2, f"exit {run.status}, {run.output!r}")
        expect(reason in run.output, f"the output {run.output!r} does not say {reason!r}")
        landed.update(name for name in ("agent.zip", "cloud-scripts.tgz") if name not in reason)
        expect(":" not in run.output and run.output.count("\n") == 1, f"not one plain line: {run.output!r}")

    yield check
    expect_same(before, lab.state(), "the state")
    expect_same(active, lab.active(), "the services")
    expect_same(rules, lab.filter_rules(), "the packet filter")
    for name in landed:
        expect(not (lab.root / "var/cache/cloud" / name).exists(), f"a boot would install {name}")
        expect(
            (lab.root / JOURNAL / "landed" / name).exists(), f"{name} is gone, a second try cannot find it"
        )


def expect_rolled_back(lab: FolderVm, run: ScriptRun, before: object, reason: str = "") -> None:
    """The run failed, and the VM is the old one to the last byte."""
    expect(run.status == 1, f"exit {run.status}, {run.output!r}")
    expect(":" not in run.output, f"the output {run.output!r} could be read as a version")
    expect_same(before, lab.state(), "the state")
    expect(reason in run.output, f"the output {run.output!r} does not say {reason!r}")
