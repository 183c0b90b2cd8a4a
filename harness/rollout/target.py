"""The target of a rollout, what is to be installed: its release, its digest, and what its script renews."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle import catalogue as catalogue_module
from bundle import layout
from bundle.archive.digest import file_digest
from bundle.errors import UsageError
from bundle.inspect import diff
from bundle.inspect.contents import BundleContents, take
from bundle.inspect.impact import Renewal, renewals
from bundle.matrix import ScriptOrigin
from bundle.version import span

_HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{128}", re.IGNORECASE)
_ALGORITHMS = ("md5", "sha512")
_LARGEST_TEXT = 4096


@dataclass(frozen=True)
class RolloutTarget:
    """The scripts that the VMs are to have afterwards.

    Attributes:
        release: of the management server.
        digests: those that ``scriptsversion`` may have then; empty when nobody gave the archive.
        script: whose patch script does it; unknown ones are taken for CloudStack's own.
        renewals: what the script renews: service, effect and VM types.
        compared: what the renewals rest on, for people.
    """

    release: str
    digests: tuple[str, ...] = ()
    script: ScriptOrigin = "upstream"
    renewals: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    compared: str = ""

    def is_installed(self, scripts: str, software: str) -> bool | None:
        """Say whether a router has it, by what the server stores; None when the server stores nothing to go by."""
        if self.digests:
            return scripts.lower() in self.digests if scripts else None
        return same_release(software, self.release) if software else None

    def renewed(self, vm_type: str) -> dict[str, str]:
        """Return the effect on every service that the script renews on a VM type."""
        return {service: effect for service, effect, types in self.renewals if vm_type in types}


def same_release(one: str, two: str) -> bool:
    """Say whether two versions have the same numbers; ``4.22.0`` is ``4.22.0.0``."""
    try:
        return span(one)[0] == span(two)[0]
    except UsageError:
        return one == two


def target_from(saved: dict[str, Any]) -> RolloutTarget:
    """Return a target from what ``dataclasses.asdict`` made of one."""
    rows = tuple((service, effect, tuple(types)) for service, effect, types in saved["renewals"])
    return RolloutTarget(**{**saved, "digests": tuple(saved["digests"]), "renewals": rows})


@dataclass(frozen=True)
class Wanted:
    """A person's words about the bundle: folders to compare, and a digest or the archive itself."""

    bundle: Path | None = None
    before: Path | None = None
    digest: str = ""
    script: ScriptOrigin | None = None
    expected: str = ""


def find_target(release: str, wanted: Wanted) -> RolloutTarget:
    """Return what is to be installed on a server's VMs.

    Args:
        release: of the management server.
        wanted: what a person said.

    Raises:
        UsageError: a file cannot be read, two statements disagree, or the server is of another release.
        CheckFailed: a bundle is broken.
    """
    if wanted.expected and not same_release(wanted.expected, release):
        raise UsageError(f"the server is of release {release}, not of {wanted.expected}")
    digests = _digests(wanted.digest) if wanted.digest else ()
    new = take(wanted.bundle) if wanted.bundle else None
    if wanted.bundle is not None:
        archive = (new.files if new else {}).get("cloud-scripts.tgz", wanted.bundle / layout.SCRIPTS)
        found = _of_archive(archive)
        if digests and not set(digests) & set(found):
            raise UsageError(f"{archive} has another digest than the one that was given")
        digests = digests or found
    digests = tuple(digest for digest in digests if len(digest) == _length(release)) or digests
    script: ScriptOrigin = wanted.script or _script_of(new)
    rows, compared = _renewals(new, wanted)
    return RolloutTarget(release, digests, script, rows, compared)


def _script_of(new: BundleContents | None) -> ScriptOrigin:
    return "upstream" if new is None or not new.script.kind else new.script.kind


def _length(release: str) -> int:
    """Return how long the digest of a release is, by the catalogue; 128 for a release that it does not know."""
    try:
        row = catalogue_module.load().releases.get("{}.{}".format(*catalogue_module.number_of(release)))
    except UsageError:
        row = None
    return 32 if row is not None and row.signature == "md5" else 128


def _renewals(
    new: BundleContents | None, wanted: Wanted
) -> tuple[tuple[tuple[str, str, tuple[str, ...]], ...], str]:
    if new is None:
        return (), ""
    facts = catalogue_module.load()
    found: tuple[Renewal, ...]
    if wanted.before is not None:
        found = diff.compare(take(wanted.before), new, facts).renewals
        compared = f"{wanted.before} with {wanted.bundle}"
    else:
        # Without the old bundle every file counts as changed, which is the most that can happen.
        found = renewals(new.script, new.rows, facts)
        compared = f"all of {wanted.bundle}, for there is no --from-bundle"
    return tuple((row.service, row.effect, row.types) for row in found), compared


def _digests(said: str) -> tuple[str, ...]:
    """Return the digests that an option means: hex, an archive, or a file with hex in it."""
    if _HEX.fullmatch(said):
        return (said.lower(),)
    path = Path(said)
    if not path.is_file():
        raise UsageError(
            f"{said!r} is no digest and no file", hint="give cloud-scripts.tgz, its MD5 or its SHA-512 in hex"
        )
    try:
        if path.stat().st_size <= _LARGEST_TEXT:
            words = path.read_text(encoding="ascii", errors="replace").split()
            if words and _HEX.fullmatch(words[0]):
                return (words[0].lower(),)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return _of_archive(path)


def _of_archive(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                raise UsageError(f"{path} is no cloud-scripts.tgz (it does not begin as a gzip file)")
        return tuple(file_digest(path, name) for name in _ALGORITHMS)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
