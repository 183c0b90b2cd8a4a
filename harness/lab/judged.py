"""A patch of a VM that somebody else runs, judged: observed before and after, and held against the same checks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from bundle import catalogue
from bundle.errors import InfrastructureError, SysvmError, UsageError
from harness import checks
from harness.checks import Case, Expectation, Outcome, shipped
from harness.guest.protocols import Guest
from harness.kvmagent.patch import LANDING, BundleFiles
from harness.management.server import Patched
from harness.observe import observation

_KEPT_SCRIPTS = "/usr/share/cloud/cloud-scripts.tgz"
_LARGEST = 64 << 20


@dataclass(frozen=True)
class Judged:
    """The result of a patch, and the outcomes of the checks.

    Attributes:
        patched: what the server says; None when the patch failed.
        problem: why it failed, for people; empty when it did not.
        outcomes: of every check that applies.
    """

    patched: Patched | None
    problem: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The checks that did not hold."""
        return checks.failed(self.outcomes)


def patch_and_judge(guest: Guest, files: BundleFiles, act: Callable[[], Patched]) -> Judged:
    """Patch a VM and judge what the patch did to it.

    Args:
        guest: the VM.
        files: the bundle.
        act: patches it as a server does; raises when the patch failed.

    Raises:
        InfrastructureError: the VM cannot be observed: nothing is said then, for nothing was seen.
        UsageError: the VM says no type that the catalogue has.
    """
    vm_type = type_of(guest)
    old = _installed(guest, files, vm_type)
    before = observation.observe(guest)
    patched, problem = None, ""
    try:
        patched = act()
    except SysvmError as error:
        problem = error.diagnostics()
    after = observation.observe(guest, before)
    expected: Expectation = "patched" if patched is not None and patched.changed else "kept"
    case = Case(
        vm_type=vm_type, expected=expected, before=before, patched=after, after=after, signature=files.signature,
        old=old, new=shipped.read(files, vm_type), live_paths=catalogue.load().live_paths, policy=shipped.policy(files),
        recovery=shipped.recovery(files), all_flows_known=False,
    )  # fmt: skip
    return Judged(patched, problem, checks.judge(case))


def type_of(guest: Guest) -> str:
    """Return the type that a VM's command line says.

    Raises:
        UsageError: it says none, or one that the catalogue does not have.
    """
    words = guest.run(f"cat {LANDING}/cmdline").stdout.split()
    types = [word.removeprefix("type=") for word in words if word.startswith("type=")]
    if not types:
        raise UsageError(f"{guest.name}: its command line says no type", hint="judge nothing: --no-judge")
    return catalogue.vm_type(types[-1]).name


def _installed(guest: Guest, files: BundleFiles, vm_type: str) -> shipped.ShippedFiles:
    """Return what the installed scripts put into the VM; nothing where it keeps no archive of them."""
    told = guest.run(
        f"if [ -e {_KEPT_SCRIPTS} ]; then stat -c %s {_KEPT_SCRIPTS}; else echo none; fi"
    ).stdout.strip()
    if told == "none":
        return {}
    if not told.isdecimal() or int(told) > _LARGEST:
        raise InfrastructureError(
            f"{guest.name}: {_KEPT_SCRIPTS} is of size {told!r}, which no archive of scripts has"
        )
    data = base64.b64decode(guest.run(f"base64 -w0 {_KEPT_SCRIPTS}", deadline=120).stdout)
    digest = hashlib.sha512(data).hexdigest()
    return shipped.read(
        BundleFiles(files.folder, {**files.contents, "cloud-scripts.tgz": data}, digest), vm_type
    )
