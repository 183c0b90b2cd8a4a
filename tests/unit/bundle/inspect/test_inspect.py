"""``inspect`` finds what a careful packager would not ship."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.archive.reader import read_archive
from bundle.inspect.findings import judge


def tar_of(path: Path, *rows: tuple[str, dict]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, fields in rows:
            info = tarfile.TarInfo(name)
            data = fields.pop("data", b"content\n")
            for key, value in fields.items():
                setattr(info, key, value)
            info.size = len(data) if info.type == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    return path


FOUND = [
    ("etc/systemd/system/cloud.service", {"mode": 0o755}, "executable-unit", "warning"),
    ("etc/ipsec.secrets", {"mode": 0o644}, "readable-secret", "warning"),
    ("/etc/passwd", {"mode": 0o644}, "absolute-path", "danger"),
    ("etc/../../etc/passwd", {"mode": 0o644}, "escaping-path", "danger"),
    ("dev/sda", {"type": tarfile.BLKTYPE}, "device", "danger"),
    ("dev/null", {"type": tarfile.CHRTYPE}, "device", "danger"),
    ("run/fifo", {"type": tarfile.FIFOTYPE}, "device", "danger"),
    ("bin/su", {"mode": 0o4755}, "setuid", "danger"),
    ("bin/wall", {"mode": 0o2755}, "setgid", "danger"),
    ("etc/open", {"mode": 0o666}, "world-writable", "danger"),
    ("etc/link", {"type": tarfile.SYMTYPE, "linkname": "/etc/shadow"}, "symlink", "danger"),
    ("etc/near", {"type": tarfile.SYMTYPE, "linkname": "link"}, "symlink", "warning"),
    ("etc/hard", {"type": tarfile.LNKTYPE, "linkname": "../../etc/shadow"}, "hardlink", "danger"),
    ("etc/mine", {"mode": 0o644, "uid": 1000}, "owner", "warning"),
    ("root", {"mode": 0o755, "type": tarfile.DIRTYPE}, "root-widened", "warning"),
    ("opt/run", {"mode": 0o644, "data": b"#!/bin/sh\n"}, "script-not-executable", "note"),
    ("etc/new\nline", {"mode": 0o644}, "control-characters", "danger"),
    ("etc\\back", {"mode": 0o644}, "backslash", "warning"),
    ("./etc/dot", {"mode": 0o644}, "dot-path", "note"),
]


@pytest.mark.parametrize(
    ("name", "fields", "code", "level"), FOUND, ids=[f"{row[2]}-{row[0]!r}" for row in FOUND]
)
def test_every_finding(name: str, fields: dict, code: str, level: str, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tgz", (name, dict(fields)), ("etc/fine", {"mode": 0o644}))
    assert [(row.code, row.level) for row in judge(read_archive(path))] == [(code, level)]


def test_duplicates_are_found(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tgz", ("etc/a", {"mode": 0o644}), ("etc/a", {"mode": 0o644}))
    assert [row.code for row in judge(read_archive(path))] == ["duplicate"]


def test_a_folder_that_appears_twice_is_no_finding(tmp_path: Path) -> None:
    row = {"mode": 0o755, "type": tarfile.DIRTYPE}
    path = tar_of(tmp_path / "x.tgz", ("etc", dict(row)), ("etc/", dict(row)))
    assert list(judge(read_archive(path))) == []


def test_our_own_archives_have_no_findings(bundle_dir: Path) -> None:
    for name in ("agent.zip", "cloud-scripts.tgz"):
        assert list(judge(read_archive(bundle_dir / name))) == []


def test_a_bundle_with_upstream_modes_has_the_findings_that_people_complain_about(
    source: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    out = make(source, tmp_path / "out", modes="upstream")
    found = {(row.code, row.path) for row in judge(read_archive(out / "cloud-scripts.tgz"))}
    expected = {
        ("executable-unit", "etc/systemd/system/cloud.service"),
        ("readable-secret", "etc/ipsec.secrets"),
    }
    assert expected | {("root-widened", "root")} <= found


def test_zip_modes_and_links_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, attributes, data in (
            ("certs/localhost.key", 0o100644, "key"),
            ("link", 0o120777, "/etc/shadow"),
            ("plain.sh", 0o100755, "#!/bin/sh"),
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            archive.writestr(info, data)
    found = {(row.code, row.level, row.path) for row in judge(read_archive(path))}
    assert ("readable-secret", "warning", "certs/localhost.key") in found
    assert ("symlink", "danger", "link") in found
    assert not [row for row in found if row[2] == "plain.sh"]


def test_the_command_exits_with_1_for_a_dangerous_archive(tmp_path: Path, sysvm: Callable) -> None:
    path = tar_of(tmp_path / "x.tgz", ("bin/su", {"mode": 0o4755}), ("etc/new\nline\x1b[2J", {"mode": 0o644}))
    done = sysvm("bundle", "inspect", path)
    assert done.returncode == 1
    assert "danger: bin/su: set-user-id (mode 4755) [setuid]" in done.stdout
    assert "\x1b" not in done.stdout
    document = json.loads(sysvm("bundle", "inspect", path, "--json").stdout)
    assert document["counts"]["danger"] == 2
    assert document["entries"] == 2


def test_the_command_exits_with_0_for_a_sound_archive(bundle_dir: Path, sysvm: Callable) -> None:
    assert sysvm("bundle", "inspect", bundle_dir / "agent.zip").returncode == 0


def test_a_missing_file_is_the_users_mistake(sysvm: Callable) -> None:
    assert sysvm("bundle", "inspect", "absent.tgz").returncode == 2
