"""The KVM agent's side of a live patch, as far as a guest can tell.

Ask for the versions, compare the signature, upload the three files, run the script, read its one line. The bounds
are the KVM agent's own. What it does not take over is trust: an answer that says success with a line that cannot be
read is reported as such, in both dialects.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from bundle import layout
from bundle.errors import InfrastructureError, UsageError
from harness.guest.protocols import Guest

LANDING = "/var/cache/cloud"
FILES = layout.PAYLOAD

# Seconds. The guest's script waits 240 s for the end of its boot before it tells the version.
_VERSION_DEADLINE = 300.0
_PATCH_DEADLINE = 600.0
_UPLOAD_ATTEMPTS = 3

Dialect: TypeAlias = Literal["strict", "upstream"]
_DIGESTS = {32: "md5", 128: "sha512"}
_VERSION_LINE = re.compile(r"version:([0-9a-f]{32}|[0-9a-f]{128}) ?\n?")


@dataclass(frozen=True)
class BundleFiles:
    """The three files that the KVM agent uploads, and the signature that they have."""

    folder: Path
    contents: dict[str, bytes]
    signature: str


@dataclass(frozen=True)
class Versions:
    """A VM's statement of itself: the template's release line and the signature of its scripts."""

    template: str
    scripts: str


@dataclass(frozen=True)
class PatchAnswer:
    """The KVM agent's answer to the management server.

    Attributes:
        success: whether the KVM agent calls it a success.
        details: one line for the server's log, or the guest's output when it failed.
        template_version: release line of the template.
        scripts_version: signature that the server will believe from now on.
        patched: whether the script ran to a successful end; False for "no change" and for failures.
        ran: whether the script was started at all.
        output: standard output, then standard error of the script.
        fault: what keeps that output from being one version line, or an empty string.
        seconds: wall time of the script.
        legible: whether it was accepted although it is not one version line, for CloudStack's own agent reads it.
    """

    success: bool
    details: str
    template_version: str = ""
    scripts_version: str = ""
    patched: bool = False
    ran: bool = False
    output: str = ""
    fault: str = ""
    seconds: float = 0.0
    legible: bool = False


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a bundle folder that are uploaded, by name.

    Raises:
        UsageError: one of them is missing, unreadable or empty.
    """
    contents = {}
    for name in FILES:
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise UsageError(f"bundle {folder}: cannot read {name}: {error.strerror}") from None
        if not contents[name]:
            raise UsageError(f"bundle {folder}: {name} is empty")
    return contents


def load_bundle(folder: Path, digest: Literal["md5", "sha512"] | None = None) -> BundleFiles:
    """Read the three files of a bundle folder and work out the signature.

    Args:
        folder: with ``agent.zip``, ``cloud-scripts.tgz`` and ``patch-sysvms.sh``.
        digest: algorithm of the signature; None takes it from the folder's signature file, else SHA-512.

    Raises:
        UsageError: a file is missing, unreadable or empty, or the signature file belongs to another archive.
    """
    contents = read_files(folder)
    stated = _stated_signature(folder)
    algorithm = digest or _DIGESTS.get(len(stated), "sha512")
    signature = hashlib.new(algorithm, contents[layout.SCRIPTS], usedforsecurity=False).hexdigest()
    if stated and len(stated) == len(signature) and stated != signature:
        raise UsageError(
            f"bundle {folder}: {layout.SIGNATURE} says {stated[:16]}…, but cloud-scripts.tgz is {signature[:16]}…",
            hint="the folder holds files of two bundles; build or copy it again",
        )
    return BundleFiles(folder, contents, signature)


def _stated_signature(folder: Path) -> str:
    try:
        return (folder / layout.SIGNATURE).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"bundle {folder}: cannot read {layout.SIGNATURE}: {error}") from None


def ask_versions(guest: Guest) -> Versions:
    """Ask a VM for its template version and signature.

    Raises:
        InfrastructureError: it cannot be reached, or its answer has not exactly two parts.
    """
    command = "/opt/cloud/bin/get_template_version.sh"
    done = guest.run(command, deadline=_VERSION_DEADLINE, check=False)
    if done.status != 0:
        raise InfrastructureError(
            f"{guest.name}: {command} ended with status {done.status}: {done.stdout.strip()}"
        )
    parts = done.stdout.strip().split("&")
    if len(parts) != 2:
        raise InfrastructureError(
            f"{guest.name}: {command} said {done.stdout.strip()[:80]!r} (expected '<release>&<signature>')"
        )
    return Versions(parts[0].strip(), parts[1].strip())


def patch(
    guest: Guest, bundle: BundleFiles, *, forced: bool = False, dialect: Dialect = "strict"
) -> PatchAnswer:
    """Patch one VM as the KVM agent does and return its answer; nothing that goes wrong on the way raises.

    Args:
        guest: the VM.
        bundle: what to patch it with.
        forced: patch although the signature is the bundle's already.
        dialect: ``upstream`` reads the line as CloudStack 4.22's agent does and keeps the old version when it cannot;
            ``strict`` calls that a failure.
    """
    try:
        versions = ask_versions(guest)
    except InfrastructureError as error:
        return PatchAnswer(False, f"asking for the version failed: {error}")
    if versions.scripts == bundle.signature and not forced:
        return PatchAnswer(
            True,
            f"No change in the scripts checksum, not patching systemVM {guest.name}",
            versions.template,
            versions.scripts,
        )
    try:
        upload(guest, bundle.contents, attempts=_UPLOAD_ATTEMPTS)
    except InfrastructureError as error:
        return PatchAnswer(False, f"upload failed: {error}", versions.template, versions.scripts)
    return _run(guest, versions, dialect)


def upload(guest: Guest, contents: Mapping[str, bytes], attempts: int = 1) -> None:
    """Copy the files of a bundle into a VM's landing folder, mode 0755.

    Args:
        guest: the VM.
        contents: the files, by name; ``read_files`` reads those of a folder.
        attempts: how often all of them are tried: once during a boot, more often by a live patch.

    Raises:
        InfrastructureError: a file did not arrive in the last attempt.
    """
    for attempt in range(1, attempts + 1):
        try:
            for name in FILES:
                guest.put(contents[name], f"{LANDING}/{name}", 0o755)
        except InfrastructureError:
            if attempt == attempts:
                raise
        else:
            return


def _run(guest: Guest, versions: Versions, dialect: Dialect) -> PatchAnswer:
    old = versions.scripts
    try:
        done = guest.run(f"{LANDING}/{layout.SCRIPT}", deadline=_PATCH_DEADLINE, check=False)
    except InfrastructureError as error:
        return PatchAnswer(False, str(error), versions.template, old, ran=True)
    output = done.stdout + done.stderr
    if done.status != 0:
        details = output.strip() or f"the script ended with status {done.status} and said nothing"
        return PatchAnswer(
            False, details, versions.template, old, ran=True, output=output, seconds=done.seconds
        )
    fault = protocol_fault(done.stdout, done.stderr)
    read = read_upstream(output)
    if dialect == "strict" and fault:
        return PatchAnswer(
            False, f"the patch ended well, but its answer cannot be trusted: {fault}", versions.template, read or old,
            patched=True, ran=True, output=output, fault=fault, seconds=done.seconds,
        )  # fmt: skip
    return PatchAnswer(
        True, f"Successfully patched systemVM {guest.name}", versions.template, read or old,
        patched=True, ran=True, output=output, fault=fault, seconds=done.seconds, legible=read is not None,
    )  # fmt: skip


def read_upstream(output: str) -> str | None:
    """Return the version that CloudStack 4.22's agent reads from the script's output, or None.

    Line ends become blanks, the text is split at colons into exactly two parts (empty ones at the end do not count),
    and the version is the second part up to its first blank.
    """
    parts = output.replace("\n", " ").split(":")
    while parts and not parts[-1]:
        parts.pop()
    return parts[1].split(" ")[0] if len(parts) == 2 else None


def protocol_fault(stdout: str, stderr: str) -> str:
    """Return what keeps the output from being exactly one ``version:<signature>`` line; empty when nothing does."""
    if _VERSION_LINE.fullmatch(stdout) and not stderr:
        return ""
    lines = [line for line in (stdout + stderr).splitlines() if line.strip()]
    if not lines:
        return "it wrote nothing, although it ended with status 0"
    colons = (stdout + stderr).count(":")
    extra = [line for line in lines if not _VERSION_LINE.fullmatch(line)]
    if colons != 1:
        shown = (extra or lines)[0]
        return f"{colons} colons in its output, which a 4.22 agent cannot read; the first odd line is {shown[:80]!r}"
    if extra:
        where = "standard error" if extra[0] in stderr.splitlines() else "standard output"
        return f"a line on {where} that is no version line: {extra[0][:80]!r}"
    return (
        f"its line is not alone on standard output: {stdout[:80]!r} and, on standard error, {stderr[:80]!r}"
    )
