"""``stage``, ``deb``, ``rpm`` and ``iso`` put the right files at the right places."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pycdlib
import pytest

from bundle import layout
from bundle.errors import CheckFailed, InfrastructureError, UsageError
from bundle.seal.ecdsa import generate
from bundle.ship.iso import make_iso
from bundle.ship.packages import make_deb, make_rpm
from bundle.ship.stage import BACKUP, LAYOUTS, stage

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


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_files_get_the_place_and_mode_of_the_layout(name: str, bundle_dir: Path, host: Path) -> None:
    old = os.umask(0o077)
    try:
        staged = stage(bundle_dir, name, host)
    finally:
        os.umask(old)
    place = host / LAYOUTS[name].folder
    assert digests(place) == digests(bundle_dir)
    assert {(place / file).stat().st_mode & 0o7777 for file in layout.PAYLOAD} == {0o644}
    assert place.stat().st_mode & 0o7777 == 0o755
    assert staged.backup is None
    assert sorted(path.name for path in place.iterdir()) == sorted(layout.PAYLOAD)


def test_the_former_files_are_kept(bundle_dir: Path, newer: Path, host: Path) -> None:
    stage(bundle_dir, "kvm", host)
    staged = stage(newer, "kvm", host)
    assert staged.backup == host / VMS / BACKUP
    assert digests(staged.backup) == digests(bundle_dir)
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


def test_the_deb_holds_the_same_content(bundle_dir: Path, tmp_path: Path) -> None:
    make_deb(bundle_dir, "management", tmp_path / "x.deb")
    subprocess.run(["dpkg", "-x", tmp_path / "x.deb", tmp_path / "root"], check=True)
    assert digests(tmp_path / "root" / VMS) == digests(bundle_dir)
    listing = subprocess.run(
        ["dpkg", "-c", tmp_path / "x.deb"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line for line in listing.splitlines() if not line.endswith("/")]
    assert len(rows) == 3
    assert all(row.startswith("-rw-r--r-- root/root") for row in rows)
    control = subprocess.run(
        ["dpkg", "-f", tmp_path / "x.deb"], capture_output=True, text=True, check=True
    ).stdout
    assert "Package: cloudstack-systemvm-patch\n" in control
    assert "Version: 4.22.0.0+sysvm." in control


def test_the_deb_installs_over_cloudstack_common_and_gives_its_files_back(
    bundle_dir: Path, host: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("dpkg --root installs for root only")
    admin = host / "var/lib/dpkg"
    for name in ("info", "updates"):
        (admin / name).mkdir(parents=True)
    (admin / "status").touch()
    (host / VMS).mkdir(parents=True)
    for name in layout.PAYLOAD:
        (host / VMS / name).write_text("from cloudstack-common\n")
    package = host.parent / "x.deb"
    make_deb(bundle_dir, "management", package)
    dpkg = ["dpkg", f"--root={host}", "--force-script-chrootless", "--force-not-root", "--log=/dev/null"]
    subprocess.run([*dpkg, "--install", package], check=True, capture_output=True)
    assert digests(host / VMS) == digests(bundle_dir)
    subprocess.run([*dpkg, "--purge", "cloudstack-systemvm-patch"], check=True, capture_output=True)
    assert (host / VMS / "agent.zip").read_text() == "from cloudstack-common\n"
    assert sorted(path.name for path in (host / VMS).iterdir()) == sorted(layout.PAYLOAD)


def test_the_rpm_holds_the_same_content(bundle_dir: Path, tmp_path: Path) -> None:
    make_rpm(bundle_dir, "xenserver", tmp_path / "x.rpm")
    listing = subprocess.run(
        ["rpm", "-qlvp", tmp_path / "x.rpm"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    assert [(row[0], row[2], row[3], row[-1]) for row in rows] == [
        ("-rw-r--r--", "root", "root", f"/opt/xensource/packages/resources/{name}") for name in layout.PAYLOAD
    ]
    sums = subprocess.run(
        ["rpm", "-qp", "--qf", "[%{FILEDIGESTS} %{FILENAMES}\n]", tmp_path / "x.rpm"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {Path(line.split()[1]).name: line.split()[0] for line in sums.splitlines()} == digests(bundle_dir)


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
    assert done.stdout.splitlines() == [str(host / VMS / name) for name in layout.PAYLOAD]
    assert sysvm("bundle", "stage", bundle_dir, "--deb", "x.deb", "--rpm", "x.rpm").stdout == "x.deb\nx.rpm\n"
    nothing = sysvm("bundle", "stage", bundle_dir)
    assert nothing.returncode == 2
    assert "--root DEST, --deb FILE or --rpm FILE" in nothing.stderr
    assert sysvm("bundle", "iso", bundle_dir, "-o", "x.iso").returncode == 2
