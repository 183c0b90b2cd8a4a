"""What a scenario plays with: fresh VMs and bundles, with the product's script or with any other one.

A play judges a run by what anybody can see: the state of the VM, the exit status, the two streams and the log. One that
has to ask our own script more than that is marked ``own``, with the reason, and is not played with another script.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from harness.kvmagent.patch import read_upstream
from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import JOURNAL, FolderVm, ScriptRun
from tests.guest.livepatch.walk import Stage

SETUP = "opt/cloud/bin/setup"
LEGACY = Path(__file__).resolve().parents[2] / "legacy" / "patch-sysvms.sh"


class Violation(AssertionError):
    """The VM did not behave as the scenario expects."""


@dataclass(frozen=True)
class VmFactory:
    """Fresh VMs, and bundles that carry the script under test: our own one, or that of a file."""

    stage: Stage
    script: Path | None = None

    def vm(self, type_: str = "router") -> contextlib.AbstractContextManager[FolderVm]:
        """Give a VM of the old release for the length of a ``with`` block."""
        clone = self.stage.clone(type_)
        clone.lab.foreign = self.script is not None
        return clone

    def dress(self, bundle: bundles.Bundle) -> bundles.Bundle:
        """Return the bundle with the script under test."""
        return _dressed(bundle, self.script)

    def make(self, content: bundles.Content) -> bundles.Bundle:
        """Build a bundle."""
        beside = _beside(self.script)
        return self.dress(bundles.make(replace(content, scripts=content.scripts | beside)))

    def new(self) -> bundles.Bundle:
        """Return the healthy new bundle."""
        return _built(self.script, "new")

    def broken(self) -> bundles.Bundle:
        """Return the bundle after which services do not start."""
        return _built(self.script, "broken")


def _beside(script: Path | None) -> bundles.Tree:
    """Return what the script of a checkout reads from the release that it installs; nothing for other scripts."""
    folder = script.parent / "debian" / SETUP if script else None
    files = sorted(folder.glob("*.sh")) if folder else []
    return {f"{SETUP}/{file.name}": (file.read_bytes(), 0o755) for file in files}


@cache
def _built(script: Path | None, kind: Literal["new", "broken"]) -> bundles.Bundle:
    """Return the one bundle of a kind."""
    beside = _beside(script)
    if beside:
        content = bundles.new_content() if kind == "new" else bundles.broken_content()
        bundle = bundles.make(replace(content, scripts=content.scripts | beside))
    else:
        bundle = bundles.new() if kind == "new" else bundles.broken()
    return _dressed(bundle, script)


def _dressed(bundle: bundles.Bundle, script: Path | None) -> bundles.Bundle:
    return bundle if script is None else replace(bundle, script=script.read_text())


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        row: of the table of field scenarios.
        name: what it shows.
        play: raises when the VM does not behave.
        legacy_fails: whether the rival is known to fail it.
        own: why only our own script can be asked, empty where any script can.
    """

    row: str
    name: str
    play: Callable[[VmFactory], None]
    legacy_fails: bool
    own: str = ""


SCENARIOS: list[Scenario] = []


def scenario(
    row: str, *, legacy_fails: bool = False, own: str = ""
) -> Callable[[Callable[[VmFactory], None]], Callable[[VmFactory], None]]:
    """Register a function as the play of a row of the scenario table."""

    def register(function: Callable[[VmFactory], None]) -> Callable[[VmFactory], None]:
        SCENARIOS.append(Scenario(row, function.__name__, function, legacy_fails, own))
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
    if lab.foreign:
        read = read_upstream(run.output)
        expect(read in bundle.digests, f"a 4.22 agent reads the version {read!r} in {run.output!r}")
    else:
        expect(run.output == f"version:{bundle.signature} \n", f"the output is {run.output!r}")
    right = bundle.digests if lab.foreign else {bundle.signature}
    expect(lab.signature() in right, "the signature file does not hold the bundle's digest")


@contextlib.contextmanager
def expect_refused(lab: FolderVm, reason: str) -> Iterator[Callable[[ScriptRun], None]]:
    """The run inside is refused for this reason; nothing changes, and the inputs lie where no boot finds them.

    Another script than ours may have words and a status of its own, and may throw the inputs away.
    """
    before, active, rules = lab.state(), lab.active(), lab.filter_rules()
    landed: set[str] = set()

    def check(run: ScriptRun) -> None:
        _expect_failure(lab, run, 2, reason)
        landed.update(name for name in ("agent.zip", "cloud-scripts.tgz") if name not in reason)
        expect(lab.foreign or run.output.count("\n") == 1, f"not one line: {run.output!r}")

    yield check
    expect_same(before, lab.state(), "the state")
    expect_same(active, lab.active(), "the services")
    expect_same(rules, lab.filter_rules(), "the packet filter")
    for name in landed:
        expect(not (lab.root / "var/cache/cloud" / name).exists(), f"a boot would install {name}")
        kept = lab.foreign or (lab.root / JOURNAL / "landed" / name).exists()
        expect(kept, f"{name} is gone, a second try cannot find it")


def expect_rolled_back(lab: FolderVm, run: ScriptRun, before: object, reason: str = "") -> None:
    """The run failed, and the VM is the old one to the last byte."""
    _expect_failure(lab, run, 1, reason)
    expect_same(before, lab.state(), "the state")


def _expect_failure(lab: FolderVm, run: ScriptRun, status: int, reason: str) -> None:
    """The run failed and gave a reason in words that nobody takes for a version."""
    expect(run.status == status or (lab.foreign and run.status), f"exit {run.status}, {run.output!r}")
    expect(not _is_version(lab, run.output), f"the output {run.output!r} could be read as a version")
    expect(lab.foreign or reason in run.output, f"the output {run.output!r} does not say {reason!r}")


def _is_version(lab: FolderVm, output: str) -> bool:
    """Whether a management server could take it for one: in our own words no colon is ever needed."""
    return "version:" in output if lab.foreign else ":" in output
