"""CR LF line ends are refused, mended on demand, and found in what others packed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.archive.reader import read_archive
from bundle.archive.text import breaks_in_guest
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.findings import judge
from bundle.inspect.verify import check_members
from bundle.seal.manifest import load

Make = Callable[..., Path]


@pytest.fixture
def crlf(source: Path) -> Path:
    """Return the source as Git for Windows checks it out."""
    for path in source.rglob("*"):
        if path.is_file() and b"\0" not in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    return source


def test_a_checkout_with_cr_lf_is_refused_with_the_way_out(crlf: Path, make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="CR LF line ends, and 3 more") as caught:
        make(crlf, tmp_path / "out")
    assert "--mend-line-ends" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_one_such_line_in_a_script_is_enough(source: Path, make: Make, tmp_path: Path) -> None:
    (source / "systemvm/debian/root/monitorServices.py").write_bytes(b"#!/usr/bin/python3\nx = 1\r\n")
    with pytest.raises(UsageError, match=r"monitorServices\.py: CR LF line ends: no system VM"):
        make(source, tmp_path / "out")


def test_mended_line_ends_give_the_members_of_a_sound_checkout(
    source: Path, make: Make, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sound = load(make(source, tmp_path / "sound") / "manifest.json")
    request.getfixturevalue("crlf")
    mended = load(make(source, tmp_path / "mended", mend_line_ends=True) / "manifest.json")
    assert mended.members == sound.members
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_binary_files_and_texts_that_bear_it_are_left_alone(source: Path, make: Make, tmp_path: Path) -> None:
    (source / "systemvm/agent/images/dot.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\r\n")
    (source / "systemvm/agent/js/app.js").write_bytes(b"f();\r\n")
    assert make(source, tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("path", "data", "breaks"),
    [
        ("opt/cloud/bin/x.py", b"#!/usr/bin/python3\r\n", True),
        ("opt/cloud/bin/setup/common.sh", b"# sourced\r\n", True),
        ("etc/iptables/iptables-router", b"*filter\r\n", True),
        ("opt/cloud/bin/x.py", b"#!/usr/bin/python3\n", False),
        ("ui/viewer.ftl", b"<html>\r\n", False),
        ("bin/x.sh", b"\0\r\n", False),
    ],
)
def test_what_a_guest_cannot_read_is_known_by_name_and_content(path: str, data: bytes, breaks: bool) -> None:
    assert breaks_in_guest(path, data) is breaks


def test_inspect_and_verify_call_it_a_danger(tmp_path: Path, sysvm: Callable) -> None:
    data = b"#!/bin/bash\r\nexit 0\r\n"
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("opt/run")
        info.mode, info.size = 0o755, len(data)
        archive.addfile(info, io.BytesIO(data))
    found = [(row.code, row.level) for row in judge(read_archive(tmp_path / "x.tgz"))]
    assert found == [("cr-lf", "danger")]
    assert sysvm("bundle", "inspect", tmp_path / "x.tgz").returncode == 1
    entries = list(read_archive(tmp_path / "x.tgz"))
    with pytest.raises(CheckFailed, match="'opt/run' has CR LF line ends"):
        check_members("cloud-scripts.tgz", iter(entries), tuple(_member(row) for row in entries))


def _member(entry: object) -> object:
    from bundle.archive.members import Member

    return Member(entry.path, entry.kind, entry.mode, entry.size, entry.sha256)  # type: ignore[attr-defined]
