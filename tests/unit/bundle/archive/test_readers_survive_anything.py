"""``inspect`` and ``verify`` of anything at all end in an answer: no crash, no hang, nothing written."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle import layout
from bundle.archive import canonical
from bundle.archive.limits import Limits
from bundle.archive.read_tar import read_tgz
from bundle.archive.read_zip import read_zip
from bundle.archive.reader import read_archive
from bundle.errors import CheckFailed, SysvmError
from bundle.inspect.findings import judge
from bundle.inspect.verify import verify
from bundle.seal import manifest, sums
from tests.fuzzing import damaged, fuzz, json_values

FUZZ = fuzz(120)
SMALL = Limits(content=1 << 20, entries=1000, header=1 << 16)


def a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (
            ("etc", tarfile.DIRTYPE),
            ("etc/" + "n" * 150, tarfile.REGTYPE),
            ("link", tarfile.SYMTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "target"
            data = b"content" * 100 if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("run.sh", "#!/bin/sh\n" * 50)
        archive.writestr("certs/", "")
        archive.writestr(zipfile.ZipInfo("stored.bin"), b"stored")
    return buffer.getvalue()


TAR, ZIP = a_tar(), a_zip()


def survives(path: Path, data: bytes) -> None:
    """Read and judge an archive within small limits; only a reported error may come out, and nothing is written."""
    path.write_bytes(data)
    before = sorted(path.parent.iterdir())
    try:
        for finding in judge(read_archive(path, SMALL)):
            assert finding.code
    except SysvmError as error:
        assert "\n" not in str(error)
    assert sorted(path.parent.iterdir()) == before


@FUZZ
@given(data=st.binary(max_size=2000))
def test_any_bytes(data: bytes, tmp_path: Path) -> None:
    survives(tmp_path / "x", data)


@FUZZ
@given(data=st.binary(max_size=2000), kind=st.sampled_from([b"\x1f\x8b\x08\0", b"PK\x03\x04", b"PK\x05\x06"]))
def test_any_bytes_after_a_right_beginning(data: bytes, kind: bytes, tmp_path: Path) -> None:
    survives(tmp_path / "x", kind + data)


@FUZZ
@given(data=damaged(TAR))
def test_a_damaged_tar_in_a_sound_gzip(data: bytes, tmp_path: Path) -> None:
    survives(tmp_path / "x", gzip.compress(data, 1))


@FUZZ
@given(data=damaged(gzip.compress(TAR, 6, mtime=0)))
def test_a_damaged_gzip(data: bytes, tmp_path: Path) -> None:
    survives(tmp_path / "x", data)


@FUZZ
@given(data=damaged(ZIP))
def test_a_damaged_zip(data: bytes, tmp_path: Path) -> None:
    survives(tmp_path / "x", data)


@FUZZ
@given(data=st.data())
def test_a_damaged_bundle_with_sums_that_agree(data: st.DataObject, bundle_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle_dir, folder)
    name = data.draw(
        st.sampled_from([layout.MANIFEST, layout.AGENT, layout.SCRIPTS, layout.SUMS, layout.SIGNATURE])
    )
    original = (folder / name).read_bytes()
    changed = data.draw(damaged(original))
    (folder / name).write_bytes(changed)
    if name != layout.SUMS:
        (folder / layout.SUMS).write_text(sums.render(folder, {}))
    before = sorted(tmp_path.rglob("*"))
    if changed == original:
        verify(folder)
    else:
        with pytest.raises(CheckFailed) as caught:
            verify(folder)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@FUZZ
@given(
    value=json_values,
    key=st.sampled_from(["members", "facts", "schema", "epoch", "digest", "release"]),
)
def test_any_json_in_a_manifest(value: object, key: str, bundle_dir: Path) -> None:
    document = {**json.loads((bundle_dir / layout.MANIFEST).read_bytes()), key: value}
    try:
        data = canonical.dumps(document)
    except (ValueError, UnicodeEncodeError):
        return
    with pytest.raises(CheckFailed):
        manifest.parse(data)


@pytest.mark.parametrize(
    "data", [b"", b"[" * 100_000, b"{}", b"null", b'{"a":1,"a":1}', b"\xff", b"1e999", b"NaN"]
)
def test_odd_json_is_no_manifest(data: bytes) -> None:
    with pytest.raises(CheckFailed):
        manifest.parse(data)


def test_a_gzip_bomb_is_stopped(tmp_path: Path) -> None:
    info = tarfile.TarInfo("bomb")
    info.size = 1 << 30
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    data = (
        packer.compress(info.tobuf()) + b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    )
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CheckFailed, match="unpacks to more than 1048576 bytes"):
        list(read_tgz(tmp_path / "x", SMALL))


def test_a_zip_bomb_is_stopped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(8 << 20))
    with pytest.raises(CheckFailed, match="unpacks to more than 1048576 bytes"):
        list(read_zip(tmp_path / "x", SMALL))


def test_entries_that_share_data_are_refused(tmp_path: Path) -> None:
    data = bytearray(ZIP)
    with zipfile.ZipFile(io.BytesIO(ZIP)) as archive:
        first, last = archive.infolist()[0], archive.infolist()[-1]
    at = data.rfind(b"PK\x01\x02")
    entry = data.find(b"PK\x01\x02")
    row = bytes(data[entry : entry + 46 + len(first.filename)])
    size = struct.unpack_from("<L", data, len(data) - 10)[0]
    end = bytearray(data[-22:])
    struct.pack_into("<HHL", end, 8, 4, 4, size + len(row))
    (tmp_path / "x").write_bytes(bytes(data[:-22]) + row + bytes(end))
    assert at > 0
    assert last.filename == "stored.bin"
    with pytest.raises(CheckFailed, match="two entries share the same data"):
        list(read_zip(tmp_path / "x"))


def test_too_many_entries_are_stopped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        for number in range(1001):
            archive.writestr(f"f{number}", "")
    with pytest.raises(CheckFailed, match="more than 1000 entries"):
        list(read_zip(tmp_path / "x", SMALL))


def test_an_encrypted_entry_is_named(tmp_path: Path) -> None:
    data = bytearray(ZIP)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + at] |= 1
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CheckFailed, match=r"entry 'run\.sh' is encrypted"):
        list(read_zip(tmp_path / "x"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither a gzip-compressed tar archive nor a zip archive"),
        (b"\x1f\x8b", "the gzip stream is cut|not a gzip file"),
        (gzip.compress(b""), "no end marker"),
        (gzip.compress(TAR)[:-4], "the gzip stream is cut"),
        (gzip.compress(TAR) + b"trailing", "bytes after the end of the gzip stream"),
        (gzip.compress(TAR[:700]), "is cut"),
        (gzip.compress(b"x" * 512 + TAR), "corrupt header"),
        (gzip.compress(TAR + b"hidden"), "data after the end marker"),
        (ZIP[:-1], "bytes after the end record|no end record|not a zip file"),
        (ZIP + b"x", "bytes after the end record"),
    ],
    ids=range(10),
)
def test_what_is_wrong_is_said(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CheckFailed, match=words):
        list(read_archive(tmp_path / "x"))


def test_a_description_of_gnu_long_names_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name in ("a" * 300, "short"):
            archive.addfile(tarfile.TarInfo(name))
    (tmp_path / "x").write_bytes(buffer.getvalue())
    assert [row.path for row in read_tgz(tmp_path / "x")] == ["a" * 300, "short"]
