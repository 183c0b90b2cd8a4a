"""``stage``, ``deb``, ``rpm`` and ``iso`` put the right files at the right places."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pycdlib
import pytest

from bundle import layout
from bundle.errors import CheckFailed, InfrastructureError, UsageError
from bundle.seal.ecdsa import generate
from bundle.ship.iso import make_iso
from bundle.ship.layouts import KINDS, layout_of
from bundle.ship.packages import make_deb, make_rpm
from bundle.ship.stage import BACKUP, stage

Make = Callable[..., Path]
VMS = Path("usr/share/cloudstack-common/vms")


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in layout.PAYLOAD}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "host"
    path.mkdir()
    return path


@pytest.fixture
def newer(source: Path, make: Make, tmp_path: Path) -> Path:
    (source / "systemvm/debian/etc/new.conf").write_bytes(b"new\n")
    return make(source, tmp_path / "newer")


@pytest.mark.parametrize("name", KINDS)
def test_the_files_get_the_place_and_mode_of_the_layout(name: str, bundle_dir: Path, host: Path) -> None:
    old = os.umask(0o077)
    try:
        staged = stage(bundle_dir, name, host)
    finally:
        os.umask(old)
    place = host / layout_of(name, "4.22").folder
    assert digests(place) == digests(bundle_dir)
    assert {(place / file).stat().st_mode & 0o7777 for file in layout.PAYLOAD} == {0o644}
    assert place.stat().st_mode & 0o7777 == 0o755
    assert staged.backup is None
    assert sorted(path.name for path in place.iterdir()) == sorted([*layout.PAYLOAD, layout.MANIFEST])


OLD = {
    "management": "usr/share/cloudstack-common/vms",
    "kvm": "usr/share/cloudstack-common/vms",
    "xenserver": "opt/xensource/packages/iso",
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("release", ["4.14", "4.16"])
def test_hosts_of_releases_with_a_cd_get_the_image_only(
    name: str, release: str, source: Path, make: Make, host: Path, tmp_path: Path
) -> None:
    out = make(source, tmp_path / "out", release=release)
    staged = stage(out, name, host)
    assert staged.files == (host.resolve() / OLD[name] / "systemvm.iso",)
    found = read_iso(staged.files[0])
    assert found == {row: (out / row).read_bytes() for row in ("agent.zip", "cloud-scripts.tgz")}
    assert [path.name for path in (host / OLD[name]).iterdir()] == ["systemvm.iso"]
    assert stage(out, name, host).backup is None


def test_what_is_installed_can_be_proven_where_it_lies(
    source: Path, make: Make, newer: Path, host: Path, tmp_path: Path, sysvm: Callable
) -> None:
    public = generate(tmp_path / "K")
    signed = make(source, tmp_path / "signed", key=tmp_path / "K")
    stage(signed, "kvm", host)
    done = sysvm("bundle", "verify", host / VMS, "--trust", public)
    assert (done.returncode, "verified, signed by the trusted key" in done.stdout) == (0, True)
    assert sysvm("bundle", "diff", host / VMS, signed).stdout == "no difference\n"
    stage(newer, "kvm", host)
    assert not (host / VMS / layout.MANIFEST_SIGNATURE).exists()
    assert sysvm("bundle", "verify", host / VMS, "--trust", public).returncode == 1
    (host / VMS / "agent.zip").write_bytes(b"other")
    broken = sysvm("bundle", "verify", host / VMS)
    assert (broken.returncode, "agent.zip" in broken.stderr) == (1, True)


def test_the_former_files_are_kept(bundle_dir: Path, newer: Path, host: Path) -> None:
    stage(bundle_dir, "kvm", host)
    staged = stage(newer, "kvm", host)
    assert staged.backup == host / VMS / BACKUP
    assert digests(staged.backup) == digests(bundle_dir)
    assert (staged.backup / layout.MANIFEST).read_bytes() == (bundle_dir / layout.MANIFEST).read_bytes()
    assert digests(host / VMS) == digests(newer)


def test_staging_the_same_again_changes_nothing_and_keeps_the_backup(
    bundle_dir: Path, newer: Path, host: Path
) -> None:
    stage(bundle_dir, "kvm", host)
    stage(newer, "kvm", host)
    assert stage(newer, "kvm", host).backup is None
    assert digests(host / VMS / BACKUP) == digests(bundle_dir)


def test_other_files_of_the_folder_stay(bundle_dir: Path, host: Path) -> None:
    (host / VMS).mkdir(parents=True)
    (host / VMS / "systemvm.iso").write_bytes(b"old")
    stage(bundle_dir, "management", host)
    assert (host / VMS / "systemvm.iso").read_bytes() == b"old"


def test_a_broken_bundle_is_not_staged(bundle_dir: Path, host: Path) -> None:
    (bundle_dir / "agent.zip").write_bytes(b"broken")
    with pytest.raises(CheckFailed, match=r"agent\.zip"):
        stage(bundle_dir, "kvm", host)
    assert not list(host.iterdir())


def test_a_link_that_leads_out_of_the_root_is_refused(bundle_dir: Path, host: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (host / "usr").symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="leads out of"):
        stage(bundle_dir, "kvm", host)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize(("make_package", "name"), [(make_deb, "x.deb"), (make_rpm, "x.rpm")])
def test_a_package_of_the_same_bundle_is_the_same_bytes(
    make_package: Callable, name: str, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_package(bundle_dir, "kvm", tmp_path / "one" / name)
    copy = shutil.copytree(bundle_dir, tmp_path / "a copy")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    old = os.umask(0o077)
    try:
        make_package(copy, "kvm", tmp_path / "two" / name)
    finally:
        os.umask(old)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("make_package", [make_deb, make_rpm])
def test_a_package_needs_its_ending(make_package: Callable, bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must end in"):
        make_package(bundle_dir, "kvm", tmp_path / "package.txt")


@pytest.mark.parametrize(("make_package", "name"), [(make_deb, "x.deb"), (make_rpm, "x.rpm")])
def test_a_missing_tool_is_named(
    make_package: Callable, name: str, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="is not installed"):
        make_package(bundle_dir, "kvm", tmp_path / name)
    assert not (tmp_path / name).exists()


def read_iso(path: Path) -> dict[str, bytes]:
    """Return the files of an image by their Rock Ridge names."""
    image = pycdlib.PyCdlib()
    image.open(str(path))
    found = {}
    for child in image.list_children(rr_path="/"):
        if child is None or child.is_dir():
            continue
        name = child.rock_ridge.name().decode()
        with image.open_file_from_iso(rr_path=f"/{name}") as file:
            found[name] = file.read()
    image.close()
    return found


def test_the_iso_of_an_old_release_holds_both_archives(source: Path, make: Make, tmp_path: Path) -> None:
    out = make(source, tmp_path / "out", release="4.15")
    make_iso(out, tmp_path / "systemvm.iso")
    found = read_iso(tmp_path / "systemvm.iso")
    assert found == {name: (out / name).read_bytes() for name in ("agent.zip", "cloud-scripts.tgz")}


def test_the_iso_is_the_same_bytes_in_another_zone_at_another_time(
    source: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make(source, tmp_path / "out", release="4.14")
    make_iso(out, tmp_path / "one.iso")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setattr("time.time", lambda: 4102444800.0)
    make_iso(out, tmp_path / "two.iso")
    assert (tmp_path / "one.iso").read_bytes() == (tmp_path / "two.iso").read_bytes()


def test_releases_that_have_no_cd_get_no_iso(bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it ended with 4\.16"):
        make_iso(bundle_dir, tmp_path / "systemvm.iso")


def test_only_a_bundle_of_the_trusted_key_is_installed(bundle_dir: Path, host: Path, tmp_path: Path) -> None:
    key = generate(tmp_path / "K")
    for action in (
        lambda: stage(bundle_dir, "kvm", host, key),
        lambda: make_deb(bundle_dir, "kvm", tmp_path / "x.deb", key),
        lambda: make_rpm(bundle_dir, "kvm", tmp_path / "x.rpm", key),
    ):
        with pytest.raises(CheckFailed, match="not signed"):
            action()
    assert not list(host.iterdir())
    assert not list(tmp_path.glob("x.*"))


def test_the_commands_print_what_they_made(bundle_dir: Path, host: Path, sysvm: Callable) -> None:
    done = sysvm("bundle", "stage", bundle_dir, "--layout", "kvm", "--root", host)
    assert done.stdout.splitlines() == [str(host / VMS / name) for name in (*layout.PAYLOAD, layout.MANIFEST)]
    packages = sysvm("bundle", "stage", bundle_dir, "--deb", "x.deb", "--rpm", "x.rpm")
    assert packages.stdout == "x.deb\nx.rpm\n"
    assert packages.stderr.count("without a build number packages do not order by time") == 2
    nothing = sysvm("bundle", "stage", bundle_dir)
    assert nothing.returncode == 2
    assert "--root DEST, --deb FILE or --rpm FILE" in nothing.stderr
    assert sysvm("bundle", "iso", bundle_dir, "-o", "x.iso").returncode == 2


def test_an_older_build_or_release_takes_the_place_of_a_newer_one_only_on_demand(
    source: Path, make: Make, host: Path, tmp_path: Path, sysvm: Callable
) -> None:
    bundles = {
        (release, build): make(source, tmp_path / f"{release}-{build}", release=release, build=build)
        for release, build in (("4.21", 9), ("4.22", 5), ("4.22", 7))
    }
    stage(bundles["4.21", 9], "kvm", host)
    stage(bundles["4.22", 7], "kvm", host)
    for older, words in (
        (("4.22", 5), "build 5 of 4.22.0.0 is older"),
        (("4.21", 9), "release 4.21.0.0 is older"),
    ):
        with pytest.raises(CheckFailed, match=words) as caught:
            stage(bundles[older], "kvm", host)
        assert "--allow-downgrade" in caught.value.hint
        assert digests(host / VMS) == digests(bundles["4.22", 7])
    done = sysvm("bundle", "stage", bundles["4.22", 5], "--root", host, "--allow-downgrade")
    assert done.returncode == 0
    assert digests(host / VMS) == digests(bundles["4.22", 5])
