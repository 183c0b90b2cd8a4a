import json
import os
import time

import pytest
from click.testing import CliRunner

from bundle.errors import InfrastructureError, UsageError
from harness.cli.image import image as command
from harness.host import cache
from harness.image import ImageSpec, base, build, building, find, list_images
from harness.image.spec import resolve
from harness.lab.wish import Wish
from harness.vm import retention
from tests.unit.harness.image.image_samples import scripts_archive, small_tree

DAY = 86400
MIRROR = "file:///nowhere"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "cloud-scripts.tgz").write_bytes(scripts_archive({"opt/cloud/bin/x": b"1"}))
    return folder


@pytest.fixture
def made(monkeypatch):
    """Stand in for mmdebstrap: a miniature instead of Debian, which takes a minute and a mirror."""
    calls = []

    def make(plan, folder, _progress):
        calls.append(plan)
        tree = small_tree(folder / "objects")
        tree.save(folder / "tree.json")

    monkeypatch.setattr(base, "_make", make)
    return calls


def spec(bundle, release="4.21", **wishes):
    return ImageSpec(release, bundle, **{"mirror": MIRROR, **wishes})


def used(image, days_ago):
    at = time.time() - days_ago * DAY
    for path in (
        image.folder / "image.json",
        cache.entry(base.KIND, image.base) if image.base else image.folder,
    ):
        os.utime(path, (at, at))


def last_bases():
    """Return the keys of the bases, the one used longest ago first."""
    found = [entry for entry in retention.entries() if entry.kind == base.KIND]
    return [entry.key for entry in sorted(found, key=lambda entry: entry.used)]


def test_a_second_build_finds_the_first(bundle, made):
    first = build(spec(bundle))
    assert build(spec(bundle)) == first
    assert len(made) == 1


def test_other_scripts_need_no_other_base(bundle, made):
    first = build(spec(bundle))
    (bundle / "cloud-scripts.tgz").write_bytes(scripts_archive({"opt/cloud/bin/x": b"2"}))
    second = build(spec(bundle))
    assert (first.key != second.key, first.digest != second.digest, first.base == second.base) == (
        True,
        True,
        True,
    )
    assert len(made) == 1


def test_facts_of_the_image(bundle, made):
    image = build(spec(bundle, debian=11))
    assert (image.release, image.template, image.debian, image.stand_in) == ("4.21", "4.20.2", 11, True)
    assert image.label() == "4.20.2 on Debian 11 slim (stand-in base)"
    assert image.direct_boot
    assert list(image.modules()) == [
        "virtio.ko",
        "virtio_ring.ko",
        "virtio_pci.ko",
        "virtio_blk.ko",
        "virtio_net.ko",
    ]
    assert not (image.folder / "objects").exists()


@pytest.mark.parametrize(
    "change", [{"release": "4.22"}, {"debian": 13}, {"kind": "full"}, {"mirror": "file:///elsewhere"}]
)
def test_every_wish_is_part_of_the_key(bundle, change):
    plain, changed = (resolve(spec(bundle, **wishes)) for wishes in ({}, change))
    assert building.key_of(plain, b"") != building.key_of(changed, b"")


def test_a_bundle_without_scripts_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read cloud-scripts\.tgz: No such file"):
        build(spec(tmp_path / "absent"))


def test_scripts_that_are_no_archive_leave_nothing(bundle, made, root):
    (bundle / "cloud-scripts.tgz").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"cloud-scripts\.tgz cannot be read"):
        build(spec(bundle))
    assert list((root / "images").iterdir()) == []


def test_a_full_disk_is_one_line(bundle, monkeypatch, root):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(base, "_make", full)
    with pytest.raises(InfrastructureError, match="No space left on device"):
        build(spec(bundle))
    assert list((root / "bases").iterdir()) == []


def test_find_by_key_or_digest(bundle, made):
    image = build(spec(bundle))
    assert find(image.key[:8]) == find(image.digest[:8]) == image
    with pytest.raises(UsageError, match="no image matches 'zz'"):
        find("zz")
    build(spec(bundle, "4.22"))
    with pytest.raises(UsageError, match="no image matches ''"):
        find("")


def test_the_image_used_last_comes_first_and_looking_is_not_using(bundle, made):
    old, new = build(spec(bundle)), build(spec(bundle, "4.22"))
    used(old, 3)
    assert list_images() == [new, old]
    assert retention.collect_images(2, dry_run=True)[0] == old.folder


def test_gc_removes_what_was_not_used_and_keeps_the_bases_of_the_rest(bundle, made):
    old, new = build(spec(bundle, debian=11)), build(spec(bundle))
    used(old, 9)
    used(new, 9)
    build(spec(bundle))
    removed = retention.collect_images(7)
    assert removed == [old.folder, cache.entry(base.KIND, old.base)]
    assert list_images() == [new]
    assert cache.entries(base.KIND) == [cache.entry(base.KIND, new.base)]


def test_a_base_is_used_with_the_images_that_are_made_of_it(bundle, made):
    image, other = build(spec(bundle)), build(spec(bundle, debian=11))
    used(image, 9)
    used(other, 8)
    build(spec(bundle))
    assert last_bases() == [other.base, image.base]
    (bundle / "cloud-scripts.tgz").write_bytes(scripts_archive({"opt/cloud/bin/x": b"2"}))
    build(spec(bundle, debian=11))
    assert last_bases() == [image.base, other.base]


def test_of_bases_that_no_image_needs_the_one_used_last_stays_longest(bundle, made):
    image, other = build(spec(bundle)), build(spec(bundle, debian=11))
    used(image, 9)
    used(other, 8)
    build(spec(bundle))
    for folder in (image.folder, other.folder):
        cache.remove(folder)
    room = sum(entry.size for entry in retention.entries()) - 1
    assert [entry.key for entry in retention.choose(retention.entries(), size=room)] == [other.base]


def test_an_image_is_used_without_its_base_when_that_is_gone(bundle, made):
    image = build(spec(bundle))
    cache.discard(base.KIND, image.base)
    assert build(spec(bundle)) == image
    assert cache.entries(base.KIND) == []


def test_gc_keeps_a_template_that_was_booted_by_its_name(bundle, made):
    image = build(spec(bundle))
    used(image, 9)
    assert find(image.key) == image
    assert retention.collect_images(7, dry_run=True)[0] == image.folder
    assert Wish("router", "4.21", "4.22").named_image(image.key) == image
    assert retention.collect_images(7) == []


def test_gc_dry_run_removes_nothing(bundle, made):
    image = build(spec(bundle))
    used(image, 9)
    result = CliRunner().invoke(command, ["gc", "--dry-run"])
    assert f"would remove {image.folder}" in result.output
    assert image.path.exists()


def test_commands_print_json_for_machines(bundle, made):
    arguments = ["build", "--release", "4.21", "--bundle", str(bundle), "--mirror", MIRROR, "--json"]
    shown = json.loads(CliRunner().invoke(command, arguments).stdout)
    assert json.loads(CliRunner().invoke(command, ["list", "--json"]).stdout) == [shown]
    assert json.loads(CliRunner().invoke(command, ["show", shown["key"], "--json"]).stdout) == shown


def test_a_stand_in_base_is_said_in_every_output(bundle, made):
    arguments = ["--release", "4.21", "--bundle", str(bundle), "--mirror", MIRROR, "--debian", "11"]
    assert "stand-in" in CliRunner().invoke(command, ["build", *arguments]).stdout
    assert "stand-in" in CliRunner().invoke(command, ["list"]).stdout
    assert '"stand_in": true' in CliRunner().invoke(command, ["list", "--json"]).stdout


def test_an_empty_cache_says_what_to_do():
    assert "sysvm image build" in CliRunner().invoke(command, ["list"]).stdout
