"""Any disk is a template that is taken, or one line; nothing of one that is refused stays."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.archive.limits import ImageLimits
from bundle.errors import UsageError
from harness.host import cache
from harness.image import importing, partitions
from harness.image.extreader import ExtReader
from tests.fuzzing import damaged, fuzz
from tests.unit.harness.image.test_hostile_images import template

LIMITS = replace(ImageLimits(), disk=1 << 30, file=4 << 20, small=4 << 20)
EDGES = st.sampled_from([0, 1, 63, 2048, 0x7FFFFFFF, 0xFFFFFFFF])
KINDS = st.sampled_from([0, 0x05, 0x0F, 0x82, 0x83, 0x85, 0xEE])


@st.composite
def tables(draw):
    """Draw the beginning of a disk: a partition table with any values, and sectors with more of them."""
    sectors = []
    for _ in range(draw(st.integers(1, 6))):
        sector = bytearray(draw(st.binary(max_size=64)).ljust(512, b"\0"))
        for position in range(446, 510, 16):
            sector[position + 4] = draw(KINDS)
            struct.pack_into("<II", sector, position + 8, draw(EDGES | st.integers(0, 8)), draw(EDGES))
        sector[510:512] = b"\x55\xaa"
        if draw(st.booleans()):
            sector[:8] = b"EFI PART"
            struct.pack_into(
                "<QII",
                sector,
                72,
                draw(EDGES | st.integers(0, 2**64 - 1)),
                draw(EDGES),
                draw(EDGES | st.just(128)),
            )
        sectors.append(bytes(sector))
    return b"".join(sectors)


@fuzz(80)
@given(data=tables() | st.binary(max_size=1024).map(lambda data: data.ljust(510, b"\0") + b"\x55\xaa"))
def test_any_partition_table_is_read_to_an_end(data, tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(data)
    found = partitions.read(path)
    assert len(found) <= 128
    for part in found:
        assert ExtReader(path, part.offset).valid() in (True, False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return a template as a qcow2 disk, and whether it is taken."""
    folder = tmp_path_factory.mktemp("sound")
    return template(folder, {"etc/debian_version": b"12.5\n", "var/lib/dpkg/status": b"Package: bash\n"})


def take(file, folder, monkeypatch):
    """Take a file into an empty cache; a refused one is one line, and leaves nothing."""
    monkeypatch.setenv("SYSVM_CACHE", str(folder / "cache"))
    try:
        made = importing.take(file, "4.20", limits=LIMITS)
    except UsageError as error:
        assert "\n" not in error.diagnostics()
        assert cache.entries("images") == []
        assert list((folder / "cache" / "images").glob("*")) == []
        return None
    cache.discard("images", made.key)
    return made


def test_the_sound_template_is_taken(sound, tmp_path, monkeypatch):
    assert take(sound, tmp_path, monkeypatch).template == "4.20.1"


# Parts of a disk that say where the others are: qcow2 header, partition table, super block, first descriptors.
HEADS = ((0, 512), (0, 512), (1 << 20, 4096))


@fuzz(4)
@given(data=st.data())
def test_any_damage_of_a_disk_is_told_or_harmless(data, sound, tmp_path, monkeypatch):
    file = tmp_path / "t.qcow2"
    which = data.draw(st.integers(0, len(HEADS) - 1))
    begin, length = HEADS[which]
    if which == 0:
        content = sound.read_bytes()
        file.write_bytes(
            data.draw(damaged(content[:length])).ljust(length, b"\0")[:length] + content[length:]
        )
    else:
        raw = tmp_path / "raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", sound, raw], check=True)
        with raw.open("r+b") as disk:
            disk.seek(begin)
            content = disk.read(length)
            disk.seek(begin)
            disk.write(data.draw(damaged(content)).ljust(length, b"\0")[:length])
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, file], check=True)
    take(file, tmp_path, monkeypatch)
