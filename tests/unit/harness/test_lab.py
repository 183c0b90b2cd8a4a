"""What a golden snapshot depends on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness import accel, boot, golden, lab
from harness.image import images

HOST = SimpleNamespace(version=lambda: "QEMU 7.2, libvirt 9.0")
ENGINE = SimpleNamespace(accelerator=accel.TCG, technique="private mapping")


@pytest.fixture
def bundle(tmp_path):
    for name in boot.BUNDLE_FILES:
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def template(tmp_path):
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / images.KERNEL).touch()
    return images.Image(
        "key",
        folder,
        "4.21",
        "4.20.2",
        12,
        "slim",
        False,
        "digest",
        "signature",
        "6.1",
        "/dev/vda1",
        "",
        1,
        1,
    )


def test_one_disk_has_another_snapshot_when_it_boots_by_itself(template, bundle):
    direct = lab.ingredients(template, bundle, HOST, ENGINE, (), None)
    template.kernel.unlink()
    own_loader = lab.ingredients(template, bundle, HOST, ENGINE, (), None)
    assert golden.key_of(direct) != golden.key_of(own_loader)


def test_the_same_wish_has_the_same_snapshot(template, bundle):
    keys = {golden.key_of(lab.ingredients(template, bundle, HOST, ENGINE, (), None)) for _ in range(2)}
    assert len(keys) == 1
