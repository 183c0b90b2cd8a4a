"""Status of VMs: what is installed, what is available, and whether a live patch may bring it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bundle import catalogue, layout, matrix
from bundle.errors import InfrastructureError, UsageError
from harness.guest import documents
from harness.guest.protocols import Guest
from harness.kvmagent.patch import LANDING, BundleFiles, ask_versions
from harness.management.fleet import Target
from harness.management.gate import template_number

_RECORD = "/var/lib/cloud-livepatch/patch-sysvms.sh"
_AT_ONCE = 16


@dataclass(frozen=True)
class LastPatch:
    """State of a VM's last patch, as the VM tells it.

    Attributes:
        state: the script's word, such as ``committed``, ``rolled-back`` or ``stuck``; empty when it says nothing,
            ``unknown`` when it cannot say.
        reason: why.
        way_out: what leads out of that state, where nothing else does.
    """

    state: str = ""
    reason: str = ""
    way_out: str = ""


@dataclass(frozen=True)
class StatusRow:
    """The status of one VM.

    Attributes:
        name: the VM.
        template: release line of its template.
        installed: signature of its scripts; empty when it could not be asked.
        available: signature of the bundle.
        live_patch_available: whether the bundle differs and the catalogue permits it.
        verdict: the catalogue's word for this template and release: yes, caveat, no, or unknown.
        reason: why, in a line.
        last_patch: what the VM says of its last patch: committed, rolled-back, stuck, …; empty when nothing.
        way_out: what leads out of that state, where nothing else does: such a VM refuses every patch.
        error: why it could not be asked.
    """

    name: str
    template: str = ""
    installed: str = ""
    available: str = ""
    live_patch_available: bool = False
    verdict: str = "unknown"
    reason: str = ""
    last_patch: str = ""
    way_out: str = ""
    error: str = ""


def status_of(
    targets: Sequence[Target], bundle: BundleFiles, release: str | None = None
) -> tuple[StatusRow, ...]:
    """Return where VMs stand, in the order in which they are given; they are asked side by side.

    Args:
        targets: the VMs.
        bundle: what they could be patched with.
        release: release of that bundle; None means the catalogue's newest.
    """
    facts = catalogue.load()
    goal = release or facts.default
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, max(len(targets), 1))) as pool:
        return tuple(pool.map(lambda target: _status(target, bundle, goal, facts), targets))


def _status(target: Target, bundle: BundleFiles, release: str, facts: catalogue.Catalogue) -> StatusRow:
    try:
        versions = ask_versions(target.guest)
        last = last_patch(target.guest)
    except InfrastructureError as error:
        return StatusRow(target.name, available=bundle.signature, error=str(error))
    word, reason = verdict_of(versions.template, release, facts)
    differs = versions.scripts != bundle.signature
    return StatusRow(
        name=target.name,
        template=versions.template,
        installed=versions.scripts,
        available=bundle.signature,
        live_patch_available=differs and word in {"yes", "caveat"} and not last.way_out,
        verdict=word,
        reason=reason if differs else "it runs the bundle's scripts",
        last_patch=f"{last.state}: {last.reason}" if last.reason else last.state,
        way_out=last.way_out,
    )


def verdict_of(
    template: str, release: str, facts: catalogue.Catalogue | None = None, vm_type: str | None = None
) -> tuple[str, str]:
    """Return the catalogue's word for a template and a release, and why.

    Args:
        template: its release line.
        release: of the bundle.
        facts: the catalogue.
        vm_type: the VM's type; None asks for what is true of every type.
    """
    number = template_number(template)
    if len(number) < 2:
        return "unknown", f"the template does not say its release: {template!r}"
    try:
        verdict = matrix.judge(f"{number[0]}.{number[1]}", release, facts or catalogue.load())
    except UsageError as error:
        return "unknown", str(error)
    if vm_type is None:
        return verdict.word, verdict.reasons[0].text
    word, reason = verdict.for_type(vm_type)
    return word, reason.text


def patch_phase(guest: Guest) -> str:
    """Return the phase that our script is in, such as ``backup``; empty while none runs, or none answers."""
    places = f"{LANDING}/{layout.SCRIPT} {_RECORD}"
    command = f"for s in {places}; do [ ! -e $s ] || exec bash $s --status; done"
    try:
        said = documents.parse(guest.run(command, deadline=20, check=False).stdout)
        return str(said["phase"]) if said["state"] == "running" else ""
    except (InfrastructureError, ValueError, KeyError, TypeError):
        return ""


def last_patch(guest: Guest) -> LastPatch:
    """Ask a VM for its last patch; one that was never patched live says nothing, and one whose script fails is unknown.

    Raises:
        InfrastructureError: it cannot be reached.
    """
    done = guest.run(f"[ ! -e {_RECORD} ] || bash {_RECORD} --status", check=False)
    try:
        said = documents.parse(done.stdout)
        return LastPatch(str(said["state"]), str(said.get("reason", "")), str(said.get("way_out", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        if done.status == 0 and not done.stdout.strip():
            return LastPatch()
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1][:160]
        return LastPatch("unknown", f"{_RECORD} --status ended with status {done.status} and said {said}")
