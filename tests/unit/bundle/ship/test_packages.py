"""Packages put the files of a bundle in force beside CloudStack's own package of the same release, and only then."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from bundle import layout
from bundle.ship.packages import NAME, make_deb, make_rpm

Make = Callable[..., Path]
VMS = Path("usr/share/cloudstack-common/vms")
AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="packages are installed below a root folder by root only"
)


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Debian:
    """A host with dpkg below a folder, and packages of ``cloudstack-common`` that stand in for CloudStack's."""

    make = staticmethod(make_deb)
    ending = ".deb"

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("info", "updates"):
            (root / "var/lib/dpkg" / name).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()

    def _dpkg(self, *words: object) -> None:
        flags = (f"--root={self.root}", "--force-script-chrootless", "--force-not-root", "--log=/dev/null")
        run("dpkg", *flags, *words)

    def common(self, version: str) -> Path:
        tree = self.root.parent / f"common-{version}"
        for name in layout.PAYLOAD:
            (tree / VMS).mkdir(parents=True, exist_ok=True)
            (tree / VMS / name).write_text(f"{name} of {version}\n")
        (tree / "DEBIAN").mkdir()
        text = f"Package: cloudstack-common\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@localhost>\n"
        (tree / "DEBIAN/control").write_text(f"{text}Description: stand-in\n")
        run("dpkg-deb", "--build", tree, f"{tree}.deb")
        return Path(f"{tree}.deb")

    def install(self, package: Path) -> None:
        self._dpkg("--install", package)

    def remove(self) -> None:
        self._dpkg("--purge", NAME)


class Fedora:
    """A host with rpm below a folder, likewise."""

    make = staticmethod(make_rpm)
    ending = ".rpm"

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def _rpm(self, *words: object) -> None:
        run("rpm", "--root", self.root, "--nosignature", *words)

    def common(self, version: str) -> Path:
        top = self.root.parent / f"common-{version}"
        top.mkdir()
        writes = "\n".join(
            f"echo '{name} of {version}' > %{{buildroot}}/{VMS}/{name}" for name in layout.PAYLOAD
        )
        spec = (
            f"Name: cloudstack-common\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n"
            f"AutoReqProv: no\n%description\nx\n%install\nmkdir -p %{{buildroot}}/{VMS}\n{writes}\n%files\n/{VMS}/*\n"
        )
        (top / "x.spec").write_text(spec)
        run(
            "rpmbuild",
            "--quiet",
            "-bb",
            "--define",
            f"_topdir {top}",
            "--define",
            f"_dbpath {top}/db",
            top / "x.spec",
        )
        (package,) = (top / "RPMS").rglob("*.rpm")
        return package

    def install(self, package: Path) -> None:
        self._rpm("-U", package)

    def remove(self) -> None:
        self._rpm("-e", NAME)


Host = Debian | Fedora


@pytest.fixture(params=[Debian, Fedora])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """Return a host with either kind of packages."""
    return request.param(tmp_path / "host")


@pytest.fixture
def ours(host: Host, bundle_dir: Path) -> Path:
    """Return our package of a 4.22 bundle."""
    host.make(bundle_dir, "management", host.root.parent / f"ours{host.ending}")
    return host.root.parent / f"ours{host.ending}"


def in_force(host: Host, bundle: Path) -> str:
    """Return whose three files are in force: ``ours``, or the version of ``cloudstack-common``; all or none."""
    found = set()
    for name in layout.PAYLOAD:
        data = (host.root / VMS / name).read_bytes()
        found.add("ours" if data == (bundle / name).read_bytes() else data.decode().split()[-1])
    assert len(found) == 1
    return found.pop()


def left_over(host: Host) -> set[str]:
    return {path.name for path in (host.root / VMS).iterdir()} - set(layout.PAYLOAD)


@AS_ROOT
def test_installing_puts_ours_in_force_and_removing_gives_the_others_back(
    host: Host, ours: Path, bundle_dir: Path
) -> None:
    host.install(host.common("4.22.0.0"))
    host.install(ours)
    assert in_force(host, bundle_dir) == "ours"
    assert (host.root / VMS / layout.MANIFEST).read_bytes() == (bundle_dir / layout.MANIFEST).read_bytes()
    assert {(host.root / VMS / name).stat().st_mode & 0o7777 for name in layout.PAYLOAD} == {0o644}
    host.remove()
    assert in_force(host, bundle_dir) == "4.22.0.0"
    assert left_over(host) == set()
    assert not (host.root / "usr/share" / NAME).exists()


@AS_ROOT
def test_a_newer_release_is_neither_blocked_nor_covered(host: Host, ours: Path, bundle_dir: Path) -> None:
    host.install(host.common("4.22.0.0"))
    host.install(ours)
    host.install(host.common("4.23.0.0"))
    assert in_force(host, bundle_dir) == "4.23.0.0"
    assert left_over(host) == set()
    host.remove()
    assert in_force(host, bundle_dir) == "4.23.0.0"


@AS_ROOT
def test_a_newer_point_release_is_covered_and_given_back(host: Host, ours: Path, bundle_dir: Path) -> None:
    host.install(host.common("4.22.0.0"))
    host.install(ours)
    host.install(host.common("4.22.1.0"))
    assert in_force(host, bundle_dir) == "ours"
    host.remove()
    assert in_force(host, bundle_dir) == "4.22.1.0"
    assert left_over(host) == set()


@AS_ROOT
def test_ours_on_a_newer_release_stays_aside(host: Host, ours: Path, bundle_dir: Path) -> None:
    host.install(host.common("4.23.0.0"))
    host.install(ours)
    assert in_force(host, bundle_dir) == "4.23.0.0"
    host.remove()
    assert in_force(host, bundle_dir) == "4.23.0.0"


@AS_ROOT
def test_ours_needs_the_release_that_it_was_built_for(host: Host, ours: Path) -> None:
    host.install(host.common("4.21.0.0"))
    with pytest.raises(AssertionError, match="cloudstack-common"):
        host.install(ours)
    assert (host.root / VMS / "agent.zip").read_text() == "agent.zip of 4.21.0.0\n"


@AS_ROOT
def test_a_later_build_takes_the_place_of_an_earlier_one_and_not_the_other_way_round(
    host: Host, source: Path, make: Make, bundle_dir: Path, tmp_path: Path
) -> None:
    host.install(host.common("4.22.0.0"))
    (source / "systemvm/debian/etc/new.conf").write_bytes(b"new\n")
    bundles = {number: make(source, tmp_path / f"build-{number}", build=number) for number in (9, 10)}
    for number, bundle in bundles.items():
        package = tmp_path / f"{number}{host.ending}"
        host.make(bundle, "kvm", package)
        host.install(package)
        assert in_force(host, bundle) == "ours"
    host.remove()
    assert in_force(host, bundle_dir) == "4.22.0.0"
    assert left_over(host) == set()


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("4.22", "4.22.0.0"),
        ("4.22.0.0-SNAPSHOT", "4.22.0.0~SNAPSHOT"),
        ("4.22.0.0-RC1", "4.22.0.0~RC1"),
        ("4.22.0.0-acme-2", "4.22.0.0+acme.2"),
    ],
)
def test_the_label_lives_on_in_the_version(
    release: str, version: str, source: Path, make: Make, tmp_path: Path
) -> None:
    out = make(source, tmp_path / "out", release=release, build=7)
    make_deb(out, "kvm", tmp_path / "x.deb")
    make_rpm(out, "kvm", tmp_path / "x.rpm")
    assert run("dpkg", "-f", tmp_path / "x.deb", "Version").startswith(f"{version}+sysvm7.")
    assert run("rpm", "-qp", "--qf", "%{VERSION} %{RELEASE}", tmp_path / "x.rpm").startswith(f"{version} 7.")


def test_versions_grow_with_time_and_a_snapshot_comes_before_its_release(
    source: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = []
    for number, (release, epoch) in enumerate(
        [
            ("4.22.0.0-SNAPSHOT", "1800000000"),
            ("4.22", "999999999"),
            ("4.22", "1735689600"),
        ]
    ):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        out = make(source, tmp_path / f"out{number}", release=release)
        make_deb(out, "kvm", tmp_path / f"{number}.deb")
        versions.append(run("dpkg", "-f", tmp_path / f"{number}.deb", "Version").strip())
    for one, two in pairwise(versions):
        run("dpkg", "--compare-versions", one, "lt", two)


def test_the_package_of_an_old_release_brings_the_image(source: Path, make: Make, tmp_path: Path) -> None:
    out = make(source, tmp_path / "out", release="4.16")
    make_deb(out, "management", tmp_path / "x.deb")
    make_rpm(out, "xenserver", tmp_path / "x.rpm")
    assert "systemvm.iso" in run("dpkg", "-c", tmp_path / "x.deb")
    assert run("rpm", "-qlp", tmp_path / "x.rpm").splitlines() == ["/opt/xensource/packages/iso/systemvm.iso"]


def test_packages_hold_the_same_content_whoever_packed_it(bundle_dir: Path, tmp_path: Path) -> None:
    make_deb(bundle_dir, "management", tmp_path / "x.deb")
    make_rpm(bundle_dir, "xenserver", tmp_path / "x.rpm")
    rows = [line for line in run("dpkg", "-c", tmp_path / "x.deb").splitlines() if not line.endswith("/")]
    assert len(rows) == 4
    assert all(row.startswith("-rw-r--r-- root/root") for row in rows)
    run("dpkg", "-x", tmp_path / "x.deb", tmp_path / "root")
    for name in (*layout.PAYLOAD, layout.MANIFEST):
        assert (tmp_path / "root/usr/share" / NAME / name).read_bytes() == (bundle_dir / name).read_bytes()
    listed = run("rpm", "-qlvp", tmp_path / "x.rpm").splitlines()
    assert sorted(row.split()[-1] for row in listed) == sorted(
        f"/opt/xensource/packages/resources/{name}" for name in (*layout.PAYLOAD, layout.MANIFEST)
    )
