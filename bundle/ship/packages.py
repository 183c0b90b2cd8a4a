"""Make a Debian or RPM package that installs a bundle, with the distributions' own tools.

Owner, modes and time stamps are fixed, so that the package, too, depends on the bundle only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bundle import layout
from bundle.archive import output
from bundle.errors import InfrastructureError, UsageError
from bundle.inspect.verify import verify
from bundle.seal.manifest import Manifest
from bundle.ship.stage import LAYOUTS

NAME = "cloudstack-systemvm-patch"
_DEADLINE = 600
_SUMMARY = "System VM live-patch bundle for Apache CloudStack"
# CloudStack's package owns the same three paths: ours takes their place and gives them back when it is
# removed.
_DIVERTED = "cloudstack-common"
_PREINST = """#!/bin/sh
set -e
if [ "$1" = install ] || [ "$1" = upgrade ]; then
    for name in {names}; do
        dpkg-divert --quiet --package {package} --add --rename --divert "/{folder}/$name.{owner}" "/{folder}/$name"
    done
fi
"""
_POSTRM = """#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = abort-install ] || [ "$1" = disappear ]; then
    for name in {names}; do
        dpkg-divert --quiet --package {package} --remove --rename --divert "/{folder}/$name.{owner}" "/{folder}/$name"
    done
fi
"""
_SPEC = """Name: {package}
Version: {version}
Release: {release}
Summary: {summary}
License: Apache-2.0
BuildArch: noarch
AutoReqProv: no
%global _buildhost sysvm-livepatch
%global source_date_epoch_from_changelog 0
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global _binary_payload w6.gzdio

%description
{description}

%install
mkdir -p %{{buildroot}}/{folder}
{copies}

%files
{files}
"""


def _description(found: Manifest) -> str:
    return (
        f"The files agent.zip, cloud-scripts.tgz and patch-sysvms.sh of CloudStack {found.facts.name},\n"
        f"content digest sha256:{found.content_digest}."
    )


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


def _copy_payload(folder: Path, target: Path, mode: int) -> None:
    output.make_folders(target)
    for name in layout.PAYLOAD:
        shutil.copyfile(folder / name, target / name)
        (target / name).chmod(mode)


def _age(tree: Path, epoch: int) -> None:
    """Give everything the bundle's own time stamp."""
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _check_place(place: Path, ending: str) -> None:
    if place.suffix != ending:
        raise UsageError(f"{place}: the name of the package must end in {ending}")


def make_deb(folder: Path, layout_name: str, place: Path, trust: Path | None = None) -> None:
    """Write a Debian package; installing it diverts the files of ``cloudstack-common``.

    Args:
        folder: the bundle, which is verified first.
        layout_name: a key of ``stage.LAYOUTS``.
        place: the package file.
        trust: the public key that must have signed the bundle; None checks no signature.

    Raises:
        CheckFailed: the bundle does not verify.
        InfrastructureError: ``dpkg-deb`` is missing or failed.
    """
    _check_place(place, ".deb")
    found = verify(folder, trust).manifest
    target = LAYOUTS[layout_name]
    words = {"package": NAME, "folder": target.folder, "names": " ".join(layout.PAYLOAD), "owner": _DIVERTED}
    with tempfile.TemporaryDirectory() as scratch, output.file(place) as new:
        tree = Path(scratch) / "tree"
        _copy_payload(folder, tree / target.folder, target.mode)
        control = tree / "DEBIAN"
        control.mkdir()
        size = sum(fact.size for name, fact in found.files.items() if name in layout.PAYLOAD) // 1024 + 1
        output.write(
            control / "control",
            (
                f"Package: {NAME}\nVersion: {_deb_version(found)}\nArchitecture: all\n"
                f"Maintainer: sysvm-livepatch <root@localhost>\nInstalled-Size: {size}\nSection: admin\n"
                f"Priority: optional\nDescription: {_SUMMARY}\n {_description(found).replace(chr(10), chr(10) + ' ')}\n"
            ).encode(),
        )
        output.write(control / "preinst", _PREINST.format(**words).encode(), 0o755)
        output.write(control / "postrm", _POSTRM.format(**words).encode(), 0o755)
        for path in (tree, control):
            path.chmod(0o755)
        _age(tree, found.facts.epoch)
        arguments = ["dpkg-deb", "--root-owner-group", "--uniform-compression", "-Zgzip", "-z1", "--build"]
        _run([*arguments, str(tree), str(new)], found.facts.epoch, "install the package dpkg")


def _deb_version(found: Manifest) -> str:
    """Return CloudStack's version with the content digest, so that other content is another version."""
    return f"{found.facts.version}+sysvm.{found.content_digest[:12]}"


def make_rpm(folder: Path, layout_name: str, place: Path, trust: Path | None = None) -> None:
    """Write an RPM package.

    Args:
        folder: the bundle, which is verified first.
        layout_name: a key of ``stage.LAYOUTS``.
        place: the package file.
        trust: the public key that must have signed the bundle; None checks no signature.

    Raises:
        CheckFailed: the bundle does not verify.
        InfrastructureError: ``rpmbuild`` is missing or failed.
    """
    _check_place(place, ".rpm")
    found = verify(folder, trust).manifest
    target = LAYOUTS[layout_name]
    with tempfile.TemporaryDirectory() as scratch, output.file(place) as new:
        top = Path(scratch)
        payload = top / "payload"
        _copy_payload(folder, payload, target.mode)
        _age(payload, found.facts.epoch)
        spec = top / "bundle.spec"
        spec.write_text(
            _SPEC.format(
                package=NAME,
                version=found.facts.version,
                release=f"1.sysvm.{found.content_digest[:12]}",
                summary=_SUMMARY,
                description=_description(found),
                folder=target.folder,
                copies="\n".join(
                    f"cp -p {payload}/{name} %{{buildroot}}/{target.folder}/" for name in layout.PAYLOAD
                ),
                files="\n".join(
                    f"%attr({target.mode:04o},root,root) /{target.folder}/{name}" for name in layout.PAYLOAD
                ),
            ),
            encoding="utf-8",
        )
        # A private database: the machine's own may not exist, and is no business of ours.
        definitions = {"_topdir": str(top), "_dbpath": str(top / "db"), "_rpmdir": str(top / "out")}
        flags = [word for name, value in definitions.items() for word in ("--define", f"{name} {value}")]
        _run(["rpmbuild", "--quiet", "-bb", *flags, str(spec)], found.facts.epoch, "install the package rpm")
        made = list((top / "out").rglob("*.rpm"))
        if len(made) != 1:
            raise InfrastructureError(f"rpmbuild made {len(made)} packages instead of one")
        shutil.copyfile(made[0], new)
