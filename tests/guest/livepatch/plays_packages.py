"""Packages inside the bundle: the machine's own dpkg works on the database of the lab."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import FolderVm
from tests.guest.livepatch.vm_factory import (
    VmFactory,
    expect,
    expect_patched,
    expect_refused,
    expect_rolled_back,
    expect_same,
    scenario,
)

_OWN = "another script takes its packages from files that the bundles of the lab do not have"
INI = b"""[python-is-python3]
debian_os = 11
package_name = lab-python
file_name = lab-python_1_all.deb
conflicted_packages = lab-old-python
"""


@cache
def _deb(name: str, path: str, text: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "tree"
        (top / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: 1\nArchitecture: all\n"
        (top / "DEBIAN/control").write_text(control + "Maintainer: lab <lab@example.org>\nDescription: lab\n")
        (top / path).parent.mkdir(parents=True)
        (top / path).write_text(text)
        out = Path(folder) / "out.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", top, out], check=True, capture_output=True)
        return out.read_bytes()


def _content(*, broken: bool) -> bundles.Content:
    content = bundles.broken_content() if broken else bundles.new_content()
    deb = _deb("lab-python", "opt/python/bin/python", "python 3\n")
    return replace(
        content,
        agent=content.agent
        | {"packages/packages.ini": (INI, 0o644), "packages/lab-python_1_all.deb": (deb, 0o644)},
    )


def _debian_11(lab: FolderVm) -> None:
    """Make the VM one of Debian 11, where the old package is installed."""
    (lab.root / "etc/os-release").write_text('VERSION_ID="11"\n')
    for name in ("info", "updates", "triggers"):
        (lab.root / "var/lib/dpkg" / name).mkdir(parents=True)
    (lab.root / "var/lib/dpkg/status").write_text("")
    (lab.root / "var/lib/dpkg/available").write_text("")
    for name in ("lock", "lock-frontend"):
        (lab.root / "var/lib/dpkg" / name).touch()
    (lab.root / "run/lab/old.deb").write_bytes(_deb("lab-old-python", "opt/python/bin/python2", "python 2\n"))
    process = lab.start("-c", "dpkg --log=/dev/null -i /run/lab/old.deb")
    stdout, stderr = process.communicate(timeout=60)
    expect(process.returncode == 0, f"the lab cannot install a package: {stdout!r} {stderr!r}")


def _installed(lab: FolderVm) -> set[str]:
    process = lab.start("-c", "dpkg-query -W -f '${Package} ${Status}\\n'")
    stdout, _ = process.communicate(timeout=60)
    return {line.split()[0] for line in stdout.decode().splitlines() if line.endswith("install ok installed")}


@scenario("S33", own=_OWN)
def installs_the_packages_that_the_release_needs(world: VmFactory) -> None:
    with world.vm("secstorage") as lab:
        _debian_11(lab)
        bundle = world.make(_content(broken=False))
        expect_patched(lab.patch(bundle), bundle, lab)
        expect_same({"lab-python"}, _installed(lab), "the installed packages")
        expect_same("python 3\n", lab.read("opt/python/bin/python"), "the package's file")
        expect_patched(lab.patch(bundle), bundle, lab)


@scenario("S33", own=_OWN)
def loses_nothing_that_is_written_to_the_files_of_packages_meanwhile(world: VmFactory) -> None:
    with world.vm("secstorage") as lab:
        _debian_11(lab)
        path = lab.root / "opt/python/bin/python"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("my own\n")
        program = lab.root / "usr/local/sbin/dpkg"
        meanwhile = "[[ $* != *--install* ]] || echo more >>/opt/python/bin/python"
        program.write_text(f'#!/bin/bash\n{meanwhile}\nexec /usr/bin/dpkg "$@"\n')
        program.chmod(0o755)
        run = lab.patch(world.make(_content(broken=False)))
        expect(run.status == 1 and "/opt/python/bin/python was changed" in run.output, repr(run))
        expect_same("my own\nmore\n", path.read_text(), "the package's file")


@scenario("S33", own=_OWN)
def brings_the_old_packages_back_in_a_rollback(world: VmFactory) -> None:
    with world.vm("secstorage") as lab:
        _debian_11(lab)
        before = lab.state()
        expect_rolled_back(lab, lab.patch(world.make(_content(broken=True))), before)
        expect_same({"lab-old-python"}, _installed(lab), "the installed packages")


@scenario("S33", legacy_fails=True, own=_OWN)
def refuses_while_dpkg_is_locked(world: VmFactory) -> None:
    with world.vm("secstorage") as lab:
        _debian_11(lab)
        lab.land(world.make(_content(broken=False)))
        process = lab.start(
            # As dpkg and apt hold it: such a lock is another one than that of flock.
            "-c",
            'python3 -c \'import fcntl, time\nf = open("/var/lib/dpkg/lock", "w")\nfcntl.lockf(f, fcntl.LOCK_EX)\n'
            'open("/run/lab/held", "w")\ntime.sleep(60)\' & until [ -e /run/lab/held ]; do sleep 0.02; done; '
            "bash /var/cache/cloud/patch-sysvms.sh; s=$?; kill %1; exit $s",
        )
        _, stderr = process.communicate(timeout=60)
        expect(process.returncode == 2, f"exit {process.returncode}, {stderr!r}")
        expect(b"dpkg is locked" in stderr, f"the reason is {stderr!r}")


@scenario("S33", legacy_fails=True, own=_OWN)
def refuses_while_a_package_is_half_configured(world: VmFactory) -> None:
    with world.vm("secstorage") as lab:
        _debian_11(lab)
        status = lab.root / "var/lib/dpkg/status"
        status.write_text(status.read_text().replace("install ok installed", "install ok half-configured"))
        with expect_refused(lab, "half configured") as check:
            check(lab.patch(world.make(_content(broken=False))))
