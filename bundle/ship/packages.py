"""Make a Debian or RPM package that installs a bundle, with the distributions' own tools.

Owner, modes and time stamps are fixed, so that the package, too, depends on the bundle only. Where CloudStack's package
owns the files, ours keeps its own elsewhere and puts copies in their place while that package is of the same release.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jinja2

from bundle.archive import output
from bundle.catalogue import number_of
from bundle.errors import InfrastructureError, UsageError
from bundle.inspect.verify import verify
from bundle.seal.manifest import Manifest
from bundle.ship.layouts import HostLayout, files_for, layout_of
from bundle.version import comes_before

NAME = "cloudstack-systemvm-patch"
OWN = f"usr/share/{NAME}"
_DEADLINE = 600
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


def _run(arguments: list[str], epoch: int, hint: str) -> None:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(epoch),
    }
    try:
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=_DEADLINE, check=False
        )
    except FileNotFoundError:
        raise InfrastructureError(f"{arguments[0]} is not installed", hint=hint) from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"{arguments[0]} did not finish in {_DEADLINE} s") from None
    if done.returncode != 0:
        reason = (
            done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no reason given"]
        )[-1]
        raise InfrastructureError(f"{arguments[0]} failed: {reason}")


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


def _check_place(place: Path, ending: str) -> None:
    if place.suffix != ending:
        raise UsageError(f"{place}: the name of the package must end in {ending}")


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
    _check_place(place, ".deb")
    found = verify(folder, trust).manifest
    target = layout_of(kind, found.facts.release)
    with tempfile.TemporaryDirectory() as scratch, output.file(place) as new:
        tree, made = Path(scratch) / "tree", Path(scratch) / "made"
        made.mkdir()
        files = files_for(folder, found, target, made)
        words = _words(found, target, files)
        size = _copy_payload(files, tree / words["own"], target.mode) // 1024 + 1
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
        _run([*arguments, str(tree), str(new)], found.facts.epoch, "install the package dpkg")
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
    _check_place(place, ".rpm")
    found = verify(folder, trust).manifest
    target = layout_of(kind, found.facts.release)
    with tempfile.TemporaryDirectory() as scratch, output.file(place) as new:
        top = Path(scratch)
        payload, made = top / "payload", top / "made"
        made.mkdir()
        files = files_for(folder, found, target, made)
        _copy_payload(files, payload, target.mode)
        _age(payload, found.facts.epoch)
        words = _words(found, target, files)
        words |= {"version": _version(found), "revision": _revision(found), "payload": payload}
        spec = top / "bundle.spec"
        spec.write_text(_render("bundle.spec.j2", words), encoding="utf-8")
        # A private database: the machine's own may not exist, and is no business of ours.
        definitions = {"_topdir": str(top), "_dbpath": str(top / "db"), "_rpmdir": str(top / "out")}
        flags = [word for name, value in definitions.items() for word in ("--define", f"{name} {value}")]
        _run(["rpmbuild", "--quiet", "-bb", *flags, str(spec)], found.facts.epoch, "install the package rpm")
        packages = list((top / "out").rglob("*.rpm"))
        if len(packages) != 1:
            raise InfrastructureError(f"rpmbuild made {len(packages)} packages instead of one")
        shutil.copyfile(packages[0], new)
    return found
