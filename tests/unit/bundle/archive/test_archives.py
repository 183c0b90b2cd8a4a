"""The archives are ordinary ones: every program reads them, whatever the names, sizes and numbers."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.archive.deflate import CHUNK
from bundle.archive.digest import TrailingDigest
from bundle.archive.measure import measure
from bundle.archive.members import Item, Member
from bundle.archive.packer import Packer
from bundle.archive.reader import read_archive
from bundle.archive.tar import entry_header, tgz_stream
from bundle.archive.zip import write_zip
from bundle.archive.zip_format import dos_time, end_record
from bundle.inspect.verify import verify
from bundle.seal.manifest import load
from bundle.source.walk import walk

Tree = Callable[[Path, dict[str, bytes]], Path]
Make = Callable[..., Path]

RANDOM = random.Random(1).randbytes(3 << 20)
CONTENTS = {
    "empty": b"",
    "tiny": b"x",
    "block": b"y" * 512,
    "chunk": b"ab" * (CHUNK // 2),
    "chunk and one": b"ab" * (CHUNK // 2) + b"c",
    "large text": b"the quick brown fox\n" * 200_000,
    "large noise": RANDOM,
    "half noise": RANDOM[: 1 << 20] + b"z" * (1 << 20),
    "a" * 100: b"name of 100",
    "d" * 90 + "/" + "e" * 90: b"needs a prefix",
    "f" * 200: b"needs pax",
    "g" * 120 + "/" + "h" * 160 + "/" + "i" * 90: b"needs pax, too",
    "ümläut/名前": b"not ASCII",
    "with blank/and 'quote'": b"quoted",
}


@pytest.fixture
def packed(tree: Tree, source: Path, make: Make, tmp_path: Path) -> Path:
    """Return a bundle whose archives hold every odd content and name."""
    tree(source / "systemvm/agent/odd", CONTENTS)
    tree(source / "systemvm/debian/odd", CONTENTS)
    return make(source, tmp_path / "out")


def test_python_reads_the_tar(packed: Path) -> None:
    with tarfile.open(packed / "cloud-scripts.tgz") as archive:
        found = {row.name: archive.extractfile(row).read() for row in archive if row.isfile()}
        owners = {(row.uid, row.gid, row.uname, row.gname) for row in archive}
    assert {f"odd/{name}": data for name, data in CONTENTS.items()}.items() <= found.items()
    assert owners == {(0, 0, "", "")}


def test_python_reads_the_zip(packed: Path) -> None:
    with zipfile.ZipFile(packed / "agent.zip") as archive:
        assert archive.testzip() is None
        found = {row.filename: archive.read(row) for row in archive.infolist() if not row.is_dir()}
    assert {f"odd/{name}": data for name, data in CONTENTS.items()}.items() <= found.items()


def test_the_programs_of_a_guest_read_both(packed: Path, tmp_path: Path) -> None:
    for folder in ("s", "a"):
        (tmp_path / folder).mkdir()
    subprocess.run(["tar", "-xzpf", packed / "cloud-scripts.tgz", "-C", tmp_path / "s"], check=True)
    subprocess.run(
        ["unzip", "-q", packed / "agent.zip", "-d", tmp_path / "a"], check=True, env={"LC_ALL": "C.UTF-8"}
    )
    for name, data in CONTENTS.items():
        assert (tmp_path / "s/odd" / name).read_bytes() == data
        assert (tmp_path / "a/odd" / name).read_bytes() == data
    assert (tmp_path / "s/root").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "a/certs/localhost.key").stat().st_mode & 0o7777 == 0o600
    subprocess.run(["gzip", "-t", packed / "cloud-scripts.tgz"], check=True)


def test_the_gzip_header_has_no_time_and_no_name(packed: Path) -> None:
    assert (packed / "cloud-scripts.tgz").read_bytes()[:10] == bytes.fromhex("1f8b08000000000000ff")


def test_our_own_reader_agrees(packed: Path) -> None:
    verify(packed)
    entries = {row.path: row for row in read_archive(packed / "agent.zip")}
    assert entries["odd/large noise"].size == len(RANDOM)


def test_what_does_not_shrink_is_stored_and_what_does_is_deflated(packed: Path) -> None:
    with zipfile.ZipFile(packed / "agent.zip") as archive:
        methods = {row.filename: row.compress_type for row in archive.infolist()}
    assert methods["odd/large noise"] == methods["odd/tiny"] == zipfile.ZIP_STORED
    assert methods["odd/large text"] == methods["odd/half noise"] == zipfile.ZIP_DEFLATED


def test_a_parallel_stream_is_hardly_larger_than_a_serial_one(packed: Path) -> None:
    serial = io.BytesIO()
    with (
        tarfile.open(packed / "cloud-scripts.tgz") as plain,
        tarfile.open(fileobj=serial, mode="w:gz", compresslevel=6) as other,
    ):
        for row in plain:
            other.addfile(row, plain.extractfile(row))
    assert (packed / "cloud-scripts.tgz").stat().st_size < 1.02 * len(serial.getvalue())


def archive_bytes(root: Path, workers: int, target: Path) -> tuple[bytes, bytes]:
    items = list(walk(root))
    members = measure(items, "agent.zip", "careful", workers)
    with ThreadPoolExecutor(workers) as pool, target.open("w+b") as file:
        follower = TrailingDigest(file.fileno(), ("sha256",))
        write_zip(file, members, 0, Packer(pool, None, 2 * workers), None, follower)
        follower.finish()
        tgz = b"".join(tgz_stream(members, 0, pool, 2 * workers))
    return target.read_bytes(), tgz


@settings(max_examples=20)
@given(sizes=st.lists(st.sampled_from([0, 1, 511, 70_000, CHUNK, 3 * CHUNK + 5, (1 << 20) + 1]), max_size=6))
def test_any_number_of_workers_gives_the_same_bytes(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "tree").mkdir()
    for number, size in enumerate(sizes):
        data = RANDOM[:size] if number % 2 else (b"0123456789abcdef" * (size // 16 + 1))[:size]
        (folder / "tree" / f"file{number}").write_bytes(data)
    assert archive_bytes(folder / "tree", 1, folder / "a") == archive_bytes(folder / "tree", 5, folder / "b")


def test_200000_members_need_zip64(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"x")
    content = measure([Item("x", tmp_path / "content")], "agent.zip", "careful", 1)[0]
    members = [replace(content, path=f"f{number}") for number in range(200_000)]
    with ThreadPoolExecutor(2) as pool, (tmp_path / "many.zip").open("w+b") as file:
        follower = TrailingDigest(file.fileno(), ())
        write_zip(file, members, 0, Packer(pool, None, 4), None, follower)
    assert sum(1 for _ in read_archive(tmp_path / "many.zip")) == 200_000
    subprocess.run(["unzip", "-tqq", tmp_path / "many.zip", "f199999"], check=True)


def test_a_member_over_4_gib_needs_zip64_and_little_memory(
    source: Path, script: Path, tmp_path: Path
) -> None:
    if os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize < 8 << 30:
        pytest.skip("needs 8 GiB of disk")
    size = (4 << 30) + 12345
    with (source / "systemvm/agent/huge.bin").open("wb") as file:
        file.truncate(size)
    command = textwrap.dedent("""
        import re, sys
        from harness.cli import main
        sys.argv[0] = "sysvm"
        try:
            main()
        finally:
            # Not what getrusage says: that begins with the peak of the process that started this one.
            print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
    """)
    arguments = [
        "bundle",
        "build",
        "--no-cache",
        "--source",
        source,
        "--patch-script",
        script,
        "-o",
        tmp_path / "out",
    ]
    done = subprocess.run(
        [sys.executable, "-c", command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert int(done.stderr.splitlines()[-1]) < 200 * 1024
    with zipfile.ZipFile(tmp_path / "out/agent.zip") as archive:
        row = archive.getinfo("huge.bin")
        assert (row.file_size, row.compress_type) == (size, zipfile.ZIP_DEFLATED)
        assert row.extra[:2] == b"\x01\x00"
        assert archive.infolist()[-1].header_offset > row.header_offset
    listing = subprocess.run(
        ["unzip", "-v", tmp_path / "out/agent.zip", "huge.bin"], capture_output=True, text=True
    )
    assert str(size) in listing.stdout


def test_a_tar_entry_over_8_gib_gets_a_pax_size() -> None:
    size = (8 << 30) + 1
    header = entry_header(Member("huge", "file", 0o644, size, "0" * 64), 0)
    info = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict")
    assert info.name == "huge"
    assert f"size={size}\n".encode() in header


def test_offsets_over_4_gib_are_in_the_zip64_end_record() -> None:
    end = end_record(3, 100, 5 << 30)
    assert end[:4] == b"PK\x06\x06"
    assert (5 << 30).to_bytes(8, "little") in end


@given(st.integers(0, 1 << 33))
def test_zip_times_are_in_range_and_even(epoch: int) -> None:
    date, clock = dos_time(epoch)
    assert 0 <= date >> 9 <= 127
    assert 1 <= date >> 5 & 15 <= 12
    assert 1 <= date & 31 <= 31
    assert clock >> 11 < 24
    assert clock & 31 < 30


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=90), min_size=1
    )
)
def test_every_name_survives_the_tar_header(parts: list[str]) -> None:
    name = "/".join(parts)
    data = entry_header(Member(name, "file", 0o644, 0, ""), 0) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [row.name for row in archive] == [name.rstrip("/")]


def jar_bytes(method: int, *, pieces: int = 40) -> bytes:
    """Return a jar of compressible members, packed with one method; its directory and headers shrink well."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as jar:
        for number in range(pieces):
            chance = random.Random(number)
            data = bytes(chance.choice(b"abcdefgh") for _ in range(4000))
            jar.writestr(f"org/example/a/rather/long/name/for/a/package/Class{number:04}.class", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("method", "compress", "packed"),
    [
        (zipfile.ZIP_DEFLATED, "fast", zipfile.ZIP_STORED),
        (zipfile.ZIP_DEFLATED, "small", zipfile.ZIP_DEFLATED),
        (zipfile.ZIP_STORED, "fast", zipfile.ZIP_DEFLATED),
        (zipfile.ZIP_STORED, "small", zipfile.ZIP_DEFLATED),
    ],
)
@pytest.mark.parametrize("cache", [False, True])
def test_a_jar_is_deflated_again_when_its_directory_or_the_user_says_so(
    method: int, compress: str, packed: int, cache: bool, source: Path, make: Make, tmp_path: Path
) -> None:
    data = jar_bytes(method)
    (source / "systemvm/agent/library-1.0.jar").write_bytes(data)
    for _ in range(2 if cache else 1):
        out = make(source, tmp_path / "out", compress=compress, cache=cache)
        with zipfile.ZipFile(out / "agent.zip") as archive:
            assert archive.getinfo("library-1.0.jar").compress_type == packed
            assert archive.read("library-1.0.jar") == data


def test_how_it_is_packed_is_no_content(source: Path, make: Make, tmp_path: Path) -> None:
    (source / "systemvm/agent/library-1.0.jar").write_bytes(jar_bytes(zipfile.ZIP_DEFLATED))
    fast, small = (make(source, tmp_path / name, compress=name) for name in ("fast", "small"))
    sizes = [(out / "agent.zip").stat().st_size for out in (fast, small)]
    assert sizes[1] < sizes[0]
    assert load(fast / "manifest.json").content_digest == load(small / "manifest.json").content_digest


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04" + bytes(60_000),
        b"PK\x03\x04" + bytes(60_000) + b"PK\x05\x06" + b"\xff" * 18,
        b"PK\x03\x04" + bytes(60_000) + b"PK\x05\x06" + bytes(6) + b"\xff\x00" + bytes(10),
    ],
    ids=["no end", "an end beyond the file", "no directory"],
)
def test_what_only_begins_like_a_jar_is_packed_all_the_same(
    data: bytes, source: Path, make: Make, tmp_path: Path
) -> None:
    (source / "systemvm/agent/odd-1.jar").write_bytes(data)
    with zipfile.ZipFile(make(source, tmp_path / "out") / "agent.zip") as archive:
        assert archive.read("odd-1.jar") == data
