import bz2
import gzip
import hashlib
import json
import lzma
import subprocess

import pytest

from bundle.errors import CheckFailed, UsageError
from harness.host import cache
from harness.image import disk, importing, list_images
from tests.unit.harness.image.image_samples import VERSION, small_tree

RELEASE = b"Cloudstack Release 4.20.1 Wed May 14 05:22:13 PM UTC 2025\n"


def template(folder, *, release=RELEASE, var_mib=0, initrd=True):
    tree = small_tree(folder / "objects")
    if release is not None:
        tree.add_file("etc/cloudstack-release", release)
    if initrd:
        tree.add_file(f"boot/initrd.img-{VERSION}", b"initrd")
    tree.add_file("var/cache/cloud/cloud-scripts-signature", b"abc\n")
    disk.write(tree, disk.DiskLayout.of("0" * 16, disk_mib=96, var_mib=var_mib), folder / "t.qcow2")
    return folder / "t.qcow2"


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    return template(tmp_path_factory.mktemp("genuine"))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))


def nothing_left():
    return [path for kind in cache.cache_root().glob("[!l]*") for path in kind.iterdir()] == []


def test_reads_what_the_template_says(genuine):
    image = importing.take(genuine, "4.20")
    assert (image.template, image.debian, image.kind, image.stand_in) == ("4.20.1", 12, "imported", False)
    assert (image.signature, image.root_device, image.packages) == ("abc", "/dev/vda1", 2)
    assert image.size == 96 * 1024 * 1024
    assert image.digest == hashlib.sha256(image.path.read_bytes()).hexdigest()
    assert json.loads(image.sbom.read_text())["metadata"]["component"]["version"] == "4.20.1"


def test_takes_the_kernel_along_for_direct_boot(genuine):
    image = importing.take(genuine, "4.20")
    assert image.direct_boot
    assert (image.kernel.read_bytes(), image.initrd.read_bytes()) == (b"kernel", b"initrd")
    assert next(iter(image.modules())) == "virtio.ko"


def test_without_an_initramfs_it_boots_by_itself_only(tmp_path):
    assert not importing.take(template(tmp_path, initrd=False), "4.20").direct_boot


def test_a_separate_var_is_read_too(tmp_path):
    image = importing.take(template(tmp_path, var_mib=40), "4.20")
    assert (image.signature, image.packages) == ("abc", 2)


@pytest.mark.parametrize("packer", [bz2, gzip, lzma])
def test_packed_templates_are_unpacked(genuine, tmp_path, packer):
    suffix = {bz2: "bz2", gzip: "gz", lzma: "xz"}[packer]
    packed = tmp_path / f"t.qcow2.{suffix}"
    packed.write_bytes(packer.compress(genuine.read_bytes()))
    assert importing.take(packed, "4.20").template == "4.20.1"


def test_zstd_is_unpacked(genuine, tmp_path):
    packed = tmp_path / "t.qcow2.zst"
    subprocess.run(["zstd", "-q", "-o", packed, genuine], check=True)
    assert importing.take(packed, "4.20").template == "4.20.1"


def test_a_second_import_finds_the_first(genuine):
    assert importing.take(genuine, "4.20") == importing.take(genuine, "4.20.1.0")
    assert len(list_images()) == 1


def test_the_right_digests_pass(genuine):
    digests = {
        name: hashlib.new(name, genuine.read_bytes()).hexdigest() for name in ("md5", "sha256", "sha512")
    }
    assert (
        importing.take(genuine, "4.20", digests={**digests, "md5": digests["md5"].upper()}).template
        == "4.20.1"
    )


def test_a_wrong_digest_stops_before_anything_is_kept(genuine):
    with pytest.raises(CheckFailed, match="expected 0000"):
        importing.take(genuine, "4.20", digests={"sha512": "0" * 128})
    assert nothing_left()


@pytest.mark.parametrize("digest", ["0" * 31, "x" * 32, ""])
def test_what_is_no_digest_is_a_usage_error(genuine, digest):
    with pytest.raises(UsageError, match="is no md5 in hex"):
        importing.take(genuine, "4.20", digests={"md5": digest})


def test_another_releases_template_is_refused(genuine):
    with pytest.raises(UsageError, match=r"is the template 4\.20\.1, which is not that of release 4\.22"):
        importing.take(genuine, "4.22")
    assert nothing_left()


@pytest.mark.parametrize(("release", "reason"), [(None, "is no system VM template"), (b"x\n", "says 'x'")])
def test_what_is_no_template_is_refused(tmp_path, release, reason):
    with pytest.raises(UsageError, match=reason):
        importing.take(template(tmp_path, release=release), "4.20")
    assert nothing_left()


def test_a_disk_that_points_to_another_file_is_refused(genuine, tmp_path):
    overlay = tmp_path / "overlay.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", genuine, overlay], check=True
    )
    with pytest.raises(UsageError, match="refers to another file"):
        importing.take(overlay, "4.20")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.qcow2", b"raw bytes", "is no qcow2 disk"),
        ("t.qcow2", b"", "is no qcow2 disk"),
        ("t.qcow2.bz2", b"not packed", "cannot be unpacked"),
        ("t.qcow2.xz", b"not packed", "cannot be unpacked"),
        ("t.qcow2.gz", gzip.compress(b"x" * 1000, mtime=0)[:20], "cannot be unpacked"),
        ("t.qcow2.zst", b"not packed", "zstd"),
    ],
)
def test_broken_files_are_one_line(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        importing.take(tmp_path / name, "4.20")
    assert nothing_left()


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="is no file"):
        importing.take(tmp_path / "absent.qcow2", "4.20")
