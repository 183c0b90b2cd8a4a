import struct

import pytest

from harness.image import partitions

SECTOR = 512


def table(*entries):
    rows = b"".join(struct.pack("<4xB3xII", kind, start, count) for kind, start, count in entries)
    return b"\0" * 446 + rows.ljust(64, b"\0") + b"\x55\xaa"


def disk(tmp_path, sectors):
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        for number, content in sectors.items():
            file.seek(number * SECTOR)
            file.write(content)
    return path


def test_logical_partitions_are_numbered_from_five(tmp_path):
    path = disk(
        tmp_path,
        {
            0: table((0x83, 8, 100), (0x05, 1000, 5000)),
            1000: table((0x82, 8, 200), (0x05, 2000, 1000)),
            3000: table((0x83, 8, 300)),
        },
    )
    assert partitions.read(path) == [
        (1, 8 * SECTOR, 100 * SECTOR),
        (5, 1008 * SECTOR, 200 * SECTOR),
        (6, 3008 * SECTOR, 300 * SECTOR),
    ]


def test_gpt_is_read_behind_its_protective_table(tmp_path):
    header = b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", 2, 4, 128)
    entry = b"\1" * 32 + struct.pack("<QQ", 2048, 4095)
    path = disk(
        tmp_path,
        {0: table((0xEE, 1, 9999)), 1: header, 2: b"\0" * 128 + entry.ljust(128, b"\0") + b"\0" * 256},
    )
    assert partitions.read(path) == [(2, 2048 * SECTOR, 2048 * SECTOR)]


def test_logical_partitions_in_a_circle_end(tmp_path):
    path = disk(tmp_path, {0: table((0x05, 1000, 5000)), 1000: table((0x83, 8, 1), (0x05, 0, 1))})
    assert len(partitions.read(path)) < 200


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"\xff" * 100])
def test_a_disk_without_a_table_has_no_partitions(tmp_path, content):
    assert partitions.read(disk(tmp_path, {0: content})) == []
