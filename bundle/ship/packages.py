"""Make a Debian or RPM package that installs a bundle, with the distributions' own tools.

Owner, modes and time stamps are fixed, so that the package, too, depends on the bundle only. Where CloudStack's package
owns the files, ours keeps its own elsewhere and puts copies in their place while that package is of the same release.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bundle import programs
from bundle.archive import output
from bundle.catalogue import number_of
from bundle.errors import InfrastructureError, UsageError
from bundle.inspect.verify import verify
from bundle.seal.manifest import Manifest
from bundle.ship.layouts import HostLayout, files_for, layout_of
from bundle.version import comes_before

NAME = "cloudstack-systemvm-patch"
OWN = f"usr/share/{NAME}"
_SUMMARY = "System VM live-patch bundle for Apache CloudStack"


def _render(template: str, words: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bundle", "templates/packages"),
        autoescape=False,  # noqa: S701 - shell, Lua and a spec of our own words; the manifest has checked the others
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="@{",
        variable_end_string="}@",
        comment_start_string="<#--",
        comment_end_string="--#>",
    )
    return environment.get_template(template).render(words)


def _version(found: Manifest) -> str:
    """Return CloudStack's version; what comes before a release is marked by a tilde, which both formats order so."""
    facts = found.facts
    if not facts.label:
        return facts.version
    label = re.sub(r"[^A-Za-z0-9.]", ".", facts.label)
    return f"{facts.version}{'~' if comes_before(facts.label) else '+'}{label}"


def _revision(found: Manifest) -> str:
    """Return what orders the builds of one version: the build number; the digest tells two of one number apart."""
    return f"{found.facts.build}.{found.content_digest[:12]}"


def _words(found: Manifest, target: HostLayout, files: dict[str, Path]) -> dict[str, Any]:
    release = found.facts.version if found.facts.row == "newest" else found.facts.release
    major, minor = number_of(release)
    beside = [name for name in files if name in target.beside]

    def table(names: list[str] | tuple[str, ...]) -> str:
        return "{" + ", ".join(f'"{name}"' for name in names) + "}"

    return {
        "package": NAME,
        "own": OWN if target.owner else target.folder,
        "folder": target.folder,
        "owner": target.owner,
        "names": " ".join(target.names),
        "beside": " ".join(beside),
        "names_lua": table(target.names),
        "beside_lua": table(beside),
        "release": f"{major}.{minor}",
        "next": f"{major}.{minor + 1}",
        "mode": f"{target.mode:04o}",
        "shipped": list(files),
        "summary": _SUMMARY,
        "description": f"The files {', '.join(target.names)} of CloudStack {found.facts.name},\n"
        f"content digest sha256:{found.content_digest}.",
    }


def _run(arguments: list[str], epoch: int) -> None:
    """Run a tool that takes the time stamp of what it makes from the bundle."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    environment = {"PATH": path, "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(epoch)}
    programs.run(arguments, environment=environment)


def _copy_payload(files: dict[str, Path], folder: Path, mode: int) -> int:
    """Copy the files into a folder and return their size in bytes."""
    output.make_folders(folder)
    for name, source in files.items():
        shutil.copyfile(source, folder / name)
        (folder / name).chmod(mode)
    return sum((folder / name).stat().st_size for name in files)


def _age(tree: Path, epoch: int) -> None:
    """Give everything the bundle's own time stamp."""
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


@dataclass(frozen=True)
class _Draft:
    """A package that is being made.

    Attributes:
        found: the bundle's manifest.
        target: the layout of the hosts that it is for.
        files: what it brings, by name.
        scratch: a folder that goes with it.
        new: the package file, which appears when it is whole.
    """

    found: Manifest
    target: HostLayout
    files: dict[str, Path]
    scratch: Path
    new: Path


@contextmanager
def _draft(folder: Path, kind: str, place: Path, trust: Path | None, ending: str) -> Iterator[_Draft]:
    """Verify a bundle and yield what a package of it is made from."""
    if place.suffix != ending:
        raise UsageError(f"{place}: the name of the package must end in {ending}")
    found = verify(folder, trust).manifest
    target = layout_of(kind, found.facts.release)
    with tempfile.TemporaryDirectory() as scratch, output.file(place) as new:
        made = Path(scratch) / "made"
        made.mkdir()
        yield _Draft(found, target, files_for(folder, found, target, made), Path(scratch), new)


def make_deb(folder: Path, kind: str, place: Path, trust: Path | None = None) -> Manifest:
    """Write a Debian package and return the bundle's manifest.

    Args:
        folder: the bundle, which is verified first.
        kind: one of ``layouts.KINDS``.
        place: the package file.
        trust: the public key that must have signed the bundle; None checks no signature.

    Raises:
        CheckFailed: the bundle does not verify.
        InfrastructureError: ``dpkg-deb`` is missing or failed.
    """
    with _draft(folder, kind, place, trust, ".deb") as draft:
        found, target, tree = draft.found, draft.target, draft.scratch / "tree"
        words = _words(found, target, draft.files)
        size = _copy_payload(draft.files, tree / words["own"], target.mode) // 1024 + 1
        control = tree / "DEBIAN"
        control.mkdir()
        depends = f"Depends: {target.owner} (>= {words['release']}~)\n" if target.owner else ""
        description = words["description"].replace("\n", "\n ")
        text = (
            f"Package: {NAME}\nVersion: {_version(found)}+sysvm{_revision(found)}\nArchitecture: all\n"
            f"Maintainer: sysvm-livepatch <root@localhost>\nInstalled-Size: {size}\n{depends}Section: admin\n"
            f"Priority: optional\nDescription: {_SUMMARY}\n {description}\n"
        )
        output.write(control / "control", text.encode())
        if target.owner:
            output.write(control / "postinst", _render("postinst.j2", words).encode(), 0o755)
            output.write(control / "prerm", _render("prerm.j2", words).encode(), 0o755)
            output.write(control / "triggers", f"interest-noawait /{target.folder}\n".encode())
        for path in (tree, control):
            path.chmod(0o755)
        _age(tree, found.facts.epoch)
        arguments = ["dpkg-deb", "--root-owner-group", "--uniform-compression", "-Zgzip", "-z1", "--build"]
        _run([*arguments, str(tree), str(draft.new)], found.facts.epoch)
    return found


def make_rpm(folder: Path, kind: str, place: Path, trust: Path | None = None) -> Manifest:
    """Write an RPM package and return the bundle's manifest.

    Args:
        folder: the bundle, which is verified first.
        kind: one of ``layouts.KINDS``.
        place: the package file.
        trust: the public key that must have signed the bundle; None checks no signature.

    Raises:
        CheckFailed: the bundle does not verify.
        InfrastructureError: ``rpmbuild`` is missing or failed.
    """
    with _draft(folder, kind, place, trust, ".rpm") as draft:
        found, top, payload = draft.found, draft.scratch, draft.scratch / "payload"
        _copy_payload(draft.files, payload, draft.target.mode)
        _age(payload, found.facts.epoch)
        words = _words(found, draft.target, draft.files)
        words |= {"version": _version(found), "revision": _revision(found), "payload": payload}
        spec = top / "bundle.spec"
        spec.write_text(_render("bundle.spec.j2", words), encoding="utf-8")
        # A private database: the machine's own may not exist, and is no business of ours.
        definitions = {"_topdir": str(top), "_dbpath": str(top / "db"), "_rpmdir": str(top / "out")}
        flags = [word for name, value in definitions.items() for word in ("--define", f"{name} {value}")]
        _run(["rpmbuild", "--quiet", "-bb", *flags, str(spec)], found.facts.epoch)
        packages = list((top / "out").rglob("*.rpm"))
        if len(packages) != 1:
            raise InfrastructureError(f"rpmbuild made {len(packages)} packages instead of one")
        shutil.copyfile(packages[0], draft.new)
    return found
