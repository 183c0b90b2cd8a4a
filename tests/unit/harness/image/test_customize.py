import hashlib
from pathlib import Path

import pytest

from bundle.catalogue import Units
from bundle.errors import UsageError
from harness.image import boot_kernel, customize
from harness.image.disk import DiskLayout
from harness.image.spec import ImageSpec, resolve
from tests.unit.harness.image.image_samples import UNIT, VERSION, scripts_archive, small_tree

LAYOUT = DiskLayout.of("0" * 32, disk_mib=64, var_mib=16)
SCRIPTS = scripts_archive(
    {"opt/cloud/bin/vr_cfg.sh": b"#!/bin/sh\n", "etc/systemd/system/cloud-preinit.service": UNIT.encode()},
    folders=("root", "opt"),
)


@pytest.fixture
def tree(tmp_path):
    return small_tree(tmp_path / "objects")


@pytest.fixture
def finished(tree):
    plan = resolve(ImageSpec("4.21", Path("/nowhere"), mirror="http://mirror.invalid"))
    customize.apply(tree, plan, LAYOUT, boot_kernel.find(tree), b"initrd", SCRIPTS)
    return tree


def test_the_release_file_names_the_template_as_its_third_word(finished):
    assert (
        finished.read("etc/cloudstack-release").decode()
        == "Cloudstack Release 4.20.2 Wed Jan 01 12:00:00 AM UTC 2025\n"
    )


def test_the_signature_is_the_digest_that_the_release_uses(tree):
    customize.bake(tree, SCRIPTS, "md5")
    assert tree.read(customize.SIGNATURE).decode() == hashlib.md5(SCRIPTS).hexdigest() + "\n"
    customize.bake(tree, SCRIPTS, "sha512")
    assert tree.read(customize.SIGNATURE).decode() == hashlib.sha512(SCRIPTS).hexdigest() + "\n"
    assert tree.read(customize.SCRIPTS) == SCRIPTS


def test_scripts_are_baked_with_their_modes_and_folders_keep_theirs(finished):
    assert finished.nodes["opt/cloud/bin/vr_cfg.sh"].mode == 0o755
    assert finished.nodes["root"].mode == 0o700


def test_nothing_of_the_build_remains(finished):
    assert "etc/ssh/ssh_host_rsa_key" not in finished
    assert "var/log/dpkg.log" not in finished
    assert finished.read("etc/machine-id") == b""
    assert b"mirror" not in finished.read("etc/apt/sources.list").replace(b"names no mirror", b"")


def test_units_are_as_the_catalogue_says(finished):
    wants = "etc/systemd/system/multi-user.target.wants"
    assert f"{wants}/haproxy.service" not in finished
    assert (
        finished.nodes[f"{wants}/cloud-preinit.service"].target == "/etc/systemd/system/cloud-preinit.service"
    )
    assert f"{wants}/cloud-livepatch-recover.service" not in finished
    assert "etc/systemd/system/ssh.service.wants/ssh-hostkeys.service" in finished


def test_an_alias_survives_when_its_unit_is_disabled(tree):
    tree.add_link("etc/systemd/system/sshd.service", "/lib/systemd/system/ssh.service")
    customize.set_units(tree, Units(enabled=(), disabled=("sshd.service",), masked=()))
    assert "etc/systemd/system/sshd.service" in tree


def test_masking_needs_a_unit(tree):
    customize.set_units(tree, Units(enabled=(), disabled=(), masked=("haproxy.service", "absent.service")))
    assert tree.nodes["etc/systemd/system/haproxy.service"].target == "/dev/null"
    assert "etc/systemd/system/absent.service" not in tree


def test_a_separate_var_is_mounted(finished):
    lines = finished.read("etc/fstab").decode().splitlines()
    assert f"UUID={LAYOUT.var_uuid} /var ext4 defaults 0 0" in lines


def test_grub_boots_the_root_file_system_by_its_uuid(finished):
    menu = finished.read("boot/grub/grub.cfg").decode()
    assert f"linux /boot/vmlinuz root=UUID={LAYOUT.root_uuid} rw" in menu
    assert finished.read(f"boot/initrd.img-{VERSION}") == b"initrd"


@pytest.mark.parametrize("name", ["/etc/passwd", "../etc/passwd", "opt/../../etc/passwd"])
def test_refuses_scripts_that_leave_the_root(tree, name):
    with pytest.raises(UsageError, match="leaves the root"):
        customize.bake(tree, scripts_archive({name: b""}), "md5")


def test_refuses_scripts_that_are_no_archive(tree):
    with pytest.raises(UsageError, match=r"cloud-scripts\.tgz cannot be read"):
        customize.bake(tree, b"not gzip", "md5")
    with pytest.raises(UsageError, match=r"cloud-scripts\.tgz cannot be read"):
        customize.bake(tree, SCRIPTS[: len(SCRIPTS) // 2], "md5")
